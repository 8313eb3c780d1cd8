//! A real driver with a device wins, the emulator is loaded only where there is none or by force, and errors say what to do. Each case is a
//! process of its own; the real driver is a stand-in of three functions.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the child processes.
const CHILD: &str = "PTX_EMULATOR_TEST_CHILD";

/// A stand-in for the machine's driver, with `devices` devices.
fn stand_in(devices: u32) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("driver-{}-{devices}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for build outputs");
    let source = folder.join("driver.c");
    let text = format!(
        "int cuInit(unsigned flags) {{ return flags; }}\n\
         int cuDeviceGetCount(int *count) {{ *count = {devices}; return 0; }}\n"
    );
    std::fs::write(&source, text).expect("written");
    let library = folder.join("libcuda.so.1");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(compiler.expect("cc, which cargo links with").success());
    folder
}

/// What a process with these variables chooses; its standard output and error.
fn choose(search: Option<&Path>, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "child", "--nocapture"]).env(CHILD, "1").env_remove("PTX_EMULATOR");
    if let Some(folder) = search {
        child.env("LD_LIBRARY_PATH", folder);
    }
    let output = child.envs(variables.iter().copied()).output().expect("the child runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    match ptx_emulator_harness::device() {
        Ok(choice) if choice.emulator().is_some() => println!("choice: emulator"),
        Ok(_) => println!("choice: real driver"),
        Err(error) => println!("choice: {error}"),
    }
}

#[test]
fn a_real_driver_wins_unless_forced() {
    let folder = stand_in(1);
    for (variables, expected) in [
        (&[][..], "choice: real driver"),
        (&[("PTX_EMULATOR", "auto")], "choice: real driver"),
        (&[("PTX_EMULATOR", "never")], "choice: real driver"),
        (&[("PTX_EMULATOR", "force")], "choice: emulator"),
    ] {
        let output = choose(Some(&folder), variables);
        assert!(output.contains(expected), "{variables:?}: {output}");
        let said = if expected.ends_with("emulator") {
            "run on the emulator"
        } else {
            "run on the real driver (1 devices)"
        };
        assert!(output.contains(said), "{variables:?}: {output}");
    }
}

#[test]
fn a_driver_without_devices_does_not_count() {
    let folder = stand_in(0);
    assert!(choose(Some(&folder), &[]).contains("choice: emulator"));
    let output = choose(Some(&folder), &[("PTX_EMULATOR", "never")]);
    assert!(output.contains("the driver has no device"), "{output}");
}

#[test]
fn errors_say_what_to_do() {
    let output = choose(None, &[("PTX_EMULATOR", "perhaps")]);
    assert!(output.contains("use auto, force or never"), "{output}");
    let output = choose(None, &[("PTX_EMULATOR", "force"), ("PTX_EMULATOR_LIBRARY", "/no/such/file.so")]);
    assert!(
        output.contains("/no/such/file.so") && output.contains("cargo build -p ptx-emulator"),
        "{output}"
    );
    let this = std::env::current_exe().expect("this program");
    let output =
        choose(None, &[("PTX_EMULATOR", "force"), ("PTX_EMULATOR_LIBRARY", this.to_str().expect("text"))]);
    assert!(output.contains("cannot be used as the emulator"), "{output}");
}

#[test]
fn no_file_is_called_libcuda() {
    ptx_emulator_harness::emulator().expect("the emulator's library is built");
    let program = std::env::current_exe().expect("this program");
    let outputs = program.parent().expect("a folder");
    let names = std::fs::read_dir(outputs).expect("readable").flatten().map(|entry| entry.file_name());
    assert!(
        names.into_iter().all(|name| !name.to_string_lossy().starts_with("libcuda.")),
        "{}",
        outputs.display()
    );
}
