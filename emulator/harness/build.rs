//! Present so that cargo sets OUT_DIR, from which the library finds the folder of build outputs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
