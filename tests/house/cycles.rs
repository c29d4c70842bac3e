//! Import cycles between the files of one layer.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::How;
use super::tree::{Target, Tree};

/// An import from one file to another: the line where it is first seen.
pub(crate) type Edges = BTreeMap<(usize, usize), usize>;

/// Which file needs which, within one layer.
///
/// A name of its own children that a `mod.rs` merely passes on (`pub use child::Name`) is its face and no need, and who
/// imports such a name needs the child.
pub(crate) fn edges(tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    for (from, file) in tree.files.iter().enumerate() {
        for path in &file.paths {
            let Target::File(to) = tree.target(file, path) else { continue };
            let target = &tree.files[to];
            let is_face = path.how == How::Export && target.module.starts_with(&file.module);
            if to != from && !is_face && target.layer() == file.layer() {
                edges.entry((from, to)).or_insert(path.line);
            }
        }
    }
    edges
}

/// Sets of files that need each other in a circle, each with one way around it.
pub(crate) fn cycles(edges: &Edges) -> Vec<Vec<usize>> {
    let mut next: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(*from).or_default().insert(*to);
    }
    let mut found: Vec<Vec<usize>> = Vec::new();
    for start in next.keys() {
        if found.iter().any(|cycle| cycle.contains(start)) {
            continue;
        }
        found.extend(way_back(&next, *start));
    }
    found
}

/// The shortest way from a file back to itself.
fn way_back(next: &BTreeMap<usize, BTreeSet<usize>>, start: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for to in next.get(&at).into_iter().flatten() {
            if *to == start {
                let mut way = vec![start];
                let mut step = at;
                while step != start {
                    way.push(step);
                    step = came_from[&step];
                }
                way.push(start);
                way.reverse();
                return Some(way);
            }
            if *to != start && !came_from.contains_key(to) {
                came_from.insert(*to, at);
                queue.push_back(*to);
            }
        }
    }
    None
}
