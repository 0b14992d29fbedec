//! Copies the store's sources for the models: unchanged, and once for each mutation.

use std::fs;
use std::path::{Path, PathBuf};

include!("mutations.rs");

fn main() {
    println!("cargo::rerun-if-changed=mutations.rs");
    println!("cargo::rerun-if-changed=../src");
    if std::env::var_os("CARGO_CFG_CROSSBEAM_LOOM").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut trees = String::new();
    for (name, base) in BASES {
        trees += &copy(&out, name, *base, base.patches());
    }
    for Mutation { name, base, patch } in MUTATIONS {
        trees += &copy(&out, name, *base, base.patches().into_iter().chain([patch]));
    }
    let names: Vec<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    trees += &format!("pub(crate) const MUTANTS: &[&str] = &{names:?};\n");
    fs::write(out.join("trees.rs"), trees).expect("OUT_DIR is writable");
}
/// Writes one copy, in which `crate::` leads to the copy; returns its declaration.
fn copy<'a>(
    out: &Path,
    name: &str,
    base: Base,
    patches: impl IntoIterator<Item = &'a Patch>,
) -> String {
    let patches: Vec<_> = patches.into_iter().collect();
    let mut applied = 0;
    let to = out.join(name);
    fs::create_dir_all(&to).expect("OUT_DIR is writable");
    for entry in fs::read_dir("../src").expect("the sources are there") {
        let path = entry.expect("readable").path();
        let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let stem = file.trim_end_matches(".rs");
        if base.is_layers() && stem != "lib" && !LAYERS.contains(&stem) {
            continue;
        }
        let mut text = fs::read_to_string(&path).expect("readable");
        for Patch { from, to, .. } in patches.iter().filter(|patch| patch.file == file) {
            text = replace(&text, from, to)
                .unwrap_or_else(|n| panic!("{name}: {n} matches in {file} of\n{from}"));
            applied += 1;
        }
        // The unit tests of the store are not the models' business.
        let text = text
            .replace("#[cfg(test)]", "#[cfg(any())]")
            .replace("crate::", &format!("crate::trees::{name}::"));
        let (file, text) = match file {
            "lib.rs" if base.is_layers() => ("mod.rs", layers()),
            "lib.rs" => ("mod.rs", open(&text)),
            _ => (file, text),
        };
        fs::write(to.join(file), text).expect("OUT_DIR is writable");
    }
    assert_eq!(applied, patches.len(), "{name}: a patch names no file");
    let path = to.join("mod.rs");
    format!("#[path = {path:?}]\npub(crate) mod {name};\n")
}

/// Replaces the one match, whatever the layout; else says how many there are.
fn replace(text: &str, from: &str, to: &str) -> Result<String, usize> {
    assert!(text.is_ascii());
    let (places, dense): (Vec<_>, String) =
        text.char_indices().filter(|(_, c)| !c.is_whitespace()).unzip();
    let from: String = from.split_whitespace().collect();
    let matches: Vec<_> = dense.match_indices(&from).collect();
    let [(at, _)] = matches[..] else {
        return Err(matches.len());
    };
    let (start, end) = (places[at], places[at + from.len() - 1]);
    Ok([&text[..start], to, &text[end + 1..]].concat())
}

/// The crate's root as a module whose layers can be reached.
fn open(lib: &str) -> String {
    let lines = lib.lines().filter(|line| !line.starts_with("#!["));
    let open = lines.map(|line| match line.strip_prefix("mod ") {
        Some(module) => format!("pub(crate) mod {module}\n"),
        None => format!("{line}\n"),
    });
    open.collect()
}

/// A root with the lower layers alone.
fn layers() -> String {
    LAYERS.iter().map(|module| format!("pub(crate) mod {module};\n")).collect()
}
