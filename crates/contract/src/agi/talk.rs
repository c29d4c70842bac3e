//! One connection of Asterisk: its script is read, and variables are set one after the other. No deadlines: whoever
//! calls has them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::{REPLY_BYTES_MAX, Reply, Variable, reply, set_variable};
use super::foreign::is_http;
use super::head::head_bytes;

/// Most bytes that are read at once.
const READ_BYTES: usize = 2 * 1024;
/// Lines that may come instead of a reply, as `HANGUP` does.
const ASIDES_MAX: usize = 4;
/// Most bytes that are read and thrown away after our last byte.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// The connection broke, or what came was not FastAGI. The call goes on without its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Broken
    }
}

/// A connection of Asterisk, from its first byte on.
#[derive(Debug)]
pub struct Talk<S> {
    stream: S,
    /// Bytes that came and were not looked at yet.
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Of which nothing was read yet.
    pub const fn new(stream: S) -> Self {
        Talk { stream, unread: Vec::new() }
    }

    /// The stream under it.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The head, its empty line included.
    ///
    /// # Errors
    /// It is longer than a head may be, it begins as HTTP does, or the connection ended.
    pub async fn head(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            let first = self.unread.iter().position(|byte| *byte == b'\n').map(|end| &self.unread[..end]);
            if first.is_some_and(is_http) {
                return Err(Broken);
            }
            if let Some(length) = head_bytes(&self.unread).map_err(|_| Broken)? {
                let behind = self.unread.split_off(length);
                return Ok(std::mem::replace(&mut self.unread, behind));
            }
            self.read().await?;
        }
    }

    /// Sets a variable and waits for the reply: Asterisk reads the next command only then.
    ///
    /// # Errors
    /// Asterisk refuses, or says something else.
    pub async fn set(&mut self, variable: &Variable) -> Result<(), Broken> {
        self.stream.write_all(set_variable(variable).as_bytes()).await?;
        self.stream.flush().await?;
        for _ in 0..=ASIDES_MAX {
            match reply(&self.line().await?) {
                Reply::Done => return Ok(()),
                Reply::HungUp => {}
                Reply::Refused => break,
            }
        }
        Err(Broken)
    }

    async fn line(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let behind = self.unread.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.unread, behind));
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(Broken);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Broken> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.read(&mut bytes).await? {
            0 => Err(Broken),
            read => {
                self.unread.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }

    /// Ends our side, then reads what still comes: a reset would take the last command from Asterisk.
    ///
    /// # Errors
    /// The connection is gone already.
    pub async fn end(&mut self) -> Result<(), Broken> {
        self.stream.shutdown().await?;
        self.unread.clear();
        let mut left = LINGER_BYTES_MAX;
        let mut bytes = [0; READ_BYTES];
        while left > 0 {
            match self.stream.read(&mut bytes).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}
