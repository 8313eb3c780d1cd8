//! Gives the shared library the SONAME `libcuda.so`: once it is loaded by its full path, `dlopen("libcuda.so")` finds it. Its file name stays
//! `libptx_emulator.so`, so that no search path can ever find it in the place of a real driver.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}
