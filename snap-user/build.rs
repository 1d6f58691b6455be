//! Embeds the BPF object that `cargo xtask build` made. Without it the controller is complete but for the tracing, and
//! says so.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=FREEZEFRAME_BPF_OBJECT");
    let embedded =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("freezeframe.bpf.o");
    match std::env::var_os("FREEZEFRAME_BPF_OBJECT") {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            std::fs::copy(&object, &embedded).expect("FREEZEFRAME_BPF_OBJECT names a readable file");
        }
        None => std::fs::write(&embedded, []).expect("OUT_DIR can be written"),
    }
}
