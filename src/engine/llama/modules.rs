//! Kernels as shared libraries: of those beside the program, llama.cpp takes the best that this processor can run.

use std::path::{Path, PathBuf};

/// Where an installation has them, from the folder of the program.
const INSTALLED: &str = "../lib/hanzod";

/// Before anything else is asked of llama.cpp.
pub fn load() {
    match folder() {
        Some(folder) => llama_cpp_2::llama_backend::load_backends_from_path(&folder),
        // As a build in place has them.
        None => llama_cpp_2::llama_backend::load_backends(),
    }
}

fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?.join(INSTALLED);
    // A folder whose name is no text cannot be told to llama.cpp.
    (folder.to_str().is_some() && holds_kernels(&folder)).then_some(folder)
}

fn holds_kernels(folder: &Path) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("libggml-cpu"))
}
