//! A page of the documentation, taken apart: fenced blocks, tables, words in code, links and headings.

use std::path::{Path, PathBuf};

/// Where the repository is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Every file below a folder, and a file itself.
pub fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    }
    vec![path.to_owned()]
}

/// Blocks for a machine of their own that nothing runs: how each begins, and why. All others are run by tests/service.
pub const NOT_RUN: [(&str, &str); 7] = [
    ("podman build ", "it fetches base images from a registry, which no test may reach"),
    ("apt-get install --yes etcd-server", THREE_MACHINES),
    ("openssl rand -hex 32 > /etc/usherd/cluster.token", THREE_MACHINES),
    ("usherd cluster status", THREE_MACHINES),
    ("export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://10.0.1.1:2379\netcdctl user", THREE_MACHINES),
    ("export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://10.0.1.1:2379\netcdctl snapshot", THREE_MACHINES),
    ("systemctl stop usherd etcd", THREE_MACHINES),
];

const THREE_MACHINES: &str = "it needs three machines; tests/cluster and tests/demo have the same on loopback";

/// One page.
pub struct Page {
    /// Relative to the repository.
    pub name: String,
    text: String,
}

/// A fenced block.
pub struct Block {
    /// Line of its first fence, from 1.
    pub line: usize,
    /// The words behind the fence.
    pub info: String,
    /// The text inside.
    pub body: String,
}

/// A row of a table, each cell without the blanks around it.
pub type Row = Vec<String>;

/// Pages for contributors; their commands build and test, and are not run.
pub const FOR_CONTRIBUTORS: [&str; 4] = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"];

/// The README, every page of `docs/`, and those for contributors.
pub fn all() -> Vec<Page> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.sort();
    names.insert(0, "README.md".to_owned());
    names.extend(FOR_CONTRIBUTORS.map(str::to_owned));
    names.iter().map(|name| Page::read(name)).collect()
}

/// The blocks of all pages that need a machine of their own, each with its place.
pub fn for_a_machine() -> Vec<(String, Block)> {
    let blocks =
        |page: Page| page.blocks().into_iter().map(move |block| (format!("{}:{}", page.name, block.line), block));
    all().into_iter().flat_map(blocks).filter(|(_, block)| block.info == "sh host").collect()
}

impl Block {
    /// True if nothing runs it.
    pub fn is_not_run(&self) -> bool {
        NOT_RUN.iter().any(|(begin, _)| self.body.starts_with(begin))
    }
}

impl Page {
    /// Reads a page by its name from the root of the repository.
    pub fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Page { name: name.to_owned(), text }
    }

    /// Its path.
    pub fn folder(&self) -> PathBuf {
        root().join(&self.name).parent().unwrap().to_owned()
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (number, line) in self.text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(info) if !open => {
                    blocks.push(Block { line: number + 1, info: info.trim().to_owned(), body: String::new() });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    let body = &mut blocks.last_mut().unwrap().body;
                    body.push_str(line);
                    body.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: a fence is not closed", self.name);
        blocks
    }

    /// Lines outside of fences, with their numbers from 1.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut open = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.starts_with("```") {
                open = !open;
            } else if !open {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// The texts in `code` in the prose, with their lines.
    pub fn codes(&self) -> Vec<(usize, String)> {
        let mut codes = Vec::new();
        for (number, line) in self.prose() {
            codes.extend(line.split('`').skip(1).step_by(2).map(|code| (number, code.to_owned())));
        }
        codes
    }

    /// Targets of links, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(targets.map(|(target, _)| (number, target.to_owned())));
        }
        links
    }

    /// Anchors of the headings, as the usual viewers make them.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The rows of every table whose first row begins with these cells, without that row.
    pub fn table(&self, head: &[&str]) -> Vec<(usize, Row)> {
        let mut rows = Vec::new();
        let mut inside = false;
        for (number, line) in self.prose() {
            let Some(cells) = cells(line) else {
                inside = false;
                continue;
            };
            if inside {
                rows.push((number, cells));
            } else if head.iter().zip(&cells).all(|(wanted, cell)| wanted == cell) && cells.len() >= head.len() {
                inside = true;
            }
        }
        rows.retain(|(_, cells)| !cells.iter().all(|cell| cell.chars().all(|sign| sign == '-')));
        assert!(!rows.is_empty(), "{}: no table begins with {head:?}", self.name);
        rows
    }
}

fn cells(line: &str) -> Option<Row> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
    kept.map(|sign| if sign == ' ' { '-' } else { sign.to_ascii_lowercase() }).collect()
}
