//! The source tree: files as modules, and which file a path leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Token, tokens, without_tests};
use super::paths::{How, Path, definitions, paths};

/// One source file.
pub(crate) struct File {
    /// `src/daemon/clock.rs`, or `crates/engine/src/table.rs`
    pub name: String,
    /// `["daemon", "clock"]`, or `["engine", "table"]`; empty for `src/lib.rs`.
    pub module: Vec<String>,
    /// How much of the module is the crate: `crate::` leads there. 0 in the root package, else 1.
    root: usize,
    /// Its text.
    pub text: String,
    /// Without what only tests compile.
    pub tokens: Vec<Token>,
    /// Lines, without those of tests.
    pub lines: usize,
    /// The paths that it names.
    pub paths: Vec<Path>,
    definitions: BTreeSet<String>,
}

/// All source files that the program is made of.
pub(crate) struct Tree {
    /// Those without files of tests.
    pub files: Vec<File>,
    by_module: BTreeMap<Vec<String>, usize>,
    /// The crates that each layer's `Cargo.toml` names; those of the root package by `""`.
    crates: BTreeMap<String, BTreeSet<String>>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a file of this tree, by its number.
    File(usize),
    /// Into the standard library: `std::fs::File`.
    Std(Vec<String>),
    /// Into another crate: `tokio::net`.
    Crate(Vec<String>),
    /// To a name that the file itself brings along.
    Local,
}

impl Tree {
    /// Reads files by name, and the `Cargo.toml` of each crate among them.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let (manifests, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(name, _)| name.ends_with("Cargo.toml"));
        let crates =
            manifests.iter().map(|(name, text)| (layer_of(name).unwrap_or_default().to_owned(), crates_of(text)));
        let crates = crates.collect();
        let mut files: Vec<File> = files.into_iter().map(|(name, text)| File::new(name, text)).collect();
        let only_tests: BTreeSet<Vec<String>> = files.iter().flat_map(File::test_modules).collect();
        files.retain(|file| !only_tests.iter().any(|module| file.module.starts_with(module)));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let by_module = files.iter().enumerate().map(|(at, file)| (file.module.clone(), at)).collect();
        Tree { files, by_module, crates }
    }

    /// Where a path of a file leads.
    pub(crate) fn target(&self, from: &File, path: &Path) -> Target {
        let Some(first) = path.segments.first().map(String::as_str) else { return Target::Local };
        let rest = || path.segments[1..].to_vec();
        match first {
            _ if path.rooted => self.outside(path, first),
            "crate" => self.inside([from.module[..from.root].to_vec(), rest()].concat(), 0),
            "usherd" => self.inside(rest(), 0),
            name if self.is_layer(name.strip_prefix("usherd_").unwrap_or_default()) => {
                self.inside([vec![name["usherd_".len()..].to_owned()], rest()].concat(), 0)
            }
            "self" if path.inline_depth == 0 => self.inside([from.module.clone(), rest()].concat(), 0),
            "super" => {
                let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
                let Some(up) = supers.checked_sub(path.inline_depth).filter(|up| *up > 0) else { return Target::Local };
                let above = from.module[..from.module.len().saturating_sub(up)].to_vec();
                self.inside([above, path.segments[supers..].to_vec()].concat(), 0)
            }
            "self" | "Self" => Target::Local,
            "std" | "core" | "alloc" => self.outside(path, first),
            child if path.inline_depth == 0 && self.has_child(&from.module, child) => {
                self.inside([from.module.clone(), path.segments.clone()].concat(), 0)
            }
            name if path.how == How::Text && from.imports(name) => Target::Local,
            _ => self.outside(path, first),
        }
    }

    /// The crates of this house that the crate of a layer names in its `Cargo.toml`, without their `usherd_`.
    pub(crate) fn crates_below(&self, layer: &str) -> impl Iterator<Item = &str> {
        self.crates.get(layer).into_iter().flatten().filter_map(|name| name.strip_prefix("usherd_"))
    }

    /// The crates of this house beside the root package, without their `usherd_`.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &str> {
        self.crates.keys().map(String::as_str).filter(|layer| !layer.is_empty())
    }

    /// True if a layer is a crate of its own.
    fn is_layer(&self, layer: &str) -> bool {
        !layer.is_empty() && self.crates.contains_key(layer)
    }

    fn outside(&self, path: &Path, first: &str) -> Target {
        match first {
            "std" | "core" | "alloc" => Target::Std(path.segments.clone()),
            name if self.crates.values().any(|crates| crates.contains(name)) => Target::Crate(path.segments.clone()),
            _ => Target::Local,
        }
    }

    fn has_child(&self, module: &[String], child: &str) -> bool {
        self.by_module.contains_key(&[module, &[child.to_owned()]].concat())
    }

    /// The file that defines what an absolute path names, through re-exports.
    fn inside(&self, path: Vec<String>, depth: usize) -> Target {
        let deepest = (0..=path.len()).rev().find_map(|length| Some((length, *self.by_module.get(&path[..length])?)));
        let Some((length, at)) = deepest else { return Target::Local };
        let file = &self.files[at];
        let Some(name) = path.get(length).filter(|name| *name != "*" && *name != "self") else {
            return Target::File(at);
        };
        if depth > 8 || file.definitions.contains(name) {
            return Target::File(at);
        }
        let exports = file.paths.iter().filter(|path| path.how == How::Export);
        let (globs, named): (Vec<&Path>, Vec<&Path>) =
            exports.partition(|path| path.segments.last().is_some_and(|last| last == "*"));
        if let Some(export) = named.iter().find(|path| path.name() == name) {
            return self.exported(file, export, depth);
        }
        for glob in globs {
            let mut through = (*glob).clone();
            through.segments.pop();
            if let Target::File(found) = self.exported(file, &through, depth)
                && self.files[found].mentions(name)
            {
                return Target::File(found);
            }
        }
        Target::File(at)
    }

    fn exported(&self, file: &File, export: &Path, depth: usize) -> Target {
        let first = export.segments.first().map_or("", String::as_str);
        let absolute = match first {
            "crate" => [&file.module[..file.root], &export.segments[1..]].concat(),
            "self" => [file.module.clone(), export.segments[1..].to_vec()].concat(),
            "super" => {
                let supers = export.segments.iter().take_while(|segment| *segment == "super").count();
                let above = &file.module[..file.module.len().saturating_sub(supers)];
                [above, &export.segments[supers..]].concat()
            }
            child if self.has_child(&file.module, child) => [file.module.clone(), export.segments.clone()].concat(),
            _ => return Target::Local,
        };
        self.inside(absolute, depth + 1)
    }
}

impl File {
    fn new(name: String, text: String) -> Self {
        let crate_name = layer_of(&name);
        let inside = name.split_once("src/").map_or(name.as_str(), |(_, inside)| inside);
        let stem = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        let words = crate_name.into_iter().chain(stem.split('/').filter(|word| *word != "lib"));
        let module = words.map(str::to_owned).collect();
        let root = usize::from(crate_name.is_some());
        let (kept, lines_of_tests) = without_tests(tokens(&text));
        let lines = text.lines().count() - lines_of_tests;
        let (paths, definitions) = (paths(&kept), definitions(&kept).into_iter().collect());
        File { name, module, root, text, tokens: kept, lines, paths, definitions }
    }

    /// The first word of its module: its layer.
    pub(crate) fn layer(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// True if it is of a crate beside the root package.
    pub(crate) fn is_crate(&self) -> bool {
        self.root > 0
    }

    /// True if a name was brought in by `use`.
    fn imports(&self, name: &str) -> bool {
        self.paths.iter().any(|path| path.how != How::Text && path.name() == name && path.segments.len() > 1)
    }

    fn mentions(&self, name: &str) -> bool {
        self.tokens.iter().any(|token| token.text == name)
    }

    /// Files that it declares for tests alone: `#[cfg(test)] mod tests;`.
    fn test_modules(&self) -> Vec<Vec<String>> {
        let all = tokens(&self.text);
        let declared = |tokens: &[Token]| -> BTreeSet<String> {
            let modules = tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
            modules.map(|window| window[1].text.clone()).collect()
        };
        let hidden: Vec<String> = declared(&all).difference(&declared(&self.tokens)).cloned().collect();
        hidden.into_iter().map(|name| [self.module.clone(), vec![name]].concat()).collect()
    }
}

/// The layer that a crate is: `engine` of `crates/engine/src/table.rs`.
fn layer_of(name: &str) -> Option<&str> {
    name.strip_prefix("crates/")?.split('/').next()
}

/// The names under `[dependencies]`, as the source writes them.
fn crates_of(manifest: &str) -> BTreeSet<String> {
    let table: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
    dependencies.into_iter().flat_map(|table| table.keys()).map(|name| name.replace('-', "_")).collect()
}
