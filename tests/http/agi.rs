//! An Asterisk of a few lines, that runs one script.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;

use crate::client;

/// The variables that a script sets, as `NAME=value`.
pub(crate) fn run(address: SocketAddr, script: &str) -> Vec<String> {
    let mut stream = BufReader::new(client::tcp(address));
    stream.get_mut().write_all(format!("agi_network: yes\nagi_network_script: {script}\n\n").as_bytes()).unwrap();
    let mut set = Vec::new();
    let mut line = String::new();
    while stream.read_line(&mut line).unwrap() > 0 {
        let (name, value) = line.strip_prefix("SET VARIABLE ").unwrap().split_once(' ').unwrap();
        set.push(format!("{name}={}", value.trim_end().trim_matches('"')));
        line.clear();
        stream.get_mut().write_all(b"200 result=1\n").unwrap();
    }
    set
}
