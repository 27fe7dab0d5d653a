//! Makes a component of a remedy in C, as `docs/remedies/other-languages.md` does by hand: the same steps, by the libraries of
//! the tools that are called there, so that a test needs nothing but clang.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use wasi_preview1_component_adapter_provider as adapter;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [remedy, wit, out] = arguments.as_slice() else { bail!("usage: from-c REMEDY.C WIT OUT") };
    fs::create_dir_all(out)?;
    bindings(wit, out)?;
    let module = compile(remedy, out)?;
    fs::write(out.join("component.wasm"), component(&module)?)?;
    Ok(())
}

/// `wit-bindgen c`: remedy.h, remedy.c and the contract's types as an object.
fn bindings(wit: &Path, out: &Path) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("remedy"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        fs::write(out.join(name), content)?;
    }
    Ok(())
}

/// A reactor has no `main`: it is called, and called again.
fn compile(remedy: &Path, out: &Path) -> anyhow::Result<Vec<u8>> {
    let module = out.join("module.wasm");
    let status = Command::new("clang")
        .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-Os", "-Wall", "-Wextra", "-I"])
        .arg(out)
        .arg(remedy)
        .args([out.join("remedy.c"), out.join("remedy_component_type.o")])
        .arg("-o")
        .arg(&module)
        .status()
        .context("starting clang")?;
    ensure!(status.success(), "clang could not compile {}", remedy.display());
    Ok(fs::read(module)?)
}

/// `wasm-tools component new --adapt`: clang's C library imports the WASI before components, and the adapter answers it by theirs.
fn component(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)?
        .adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .validate(true)
        .encode()
}
