//! Rust source as words and signs: without comments, texts, lifetimes, and without what only tests compile.

/// One word or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The word, or one sign; `::` is one sign.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
}

/// All words and signs of a file.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0, line: 1, tokens: Vec::new() };
    while lexer.at < chars.len() {
        lexer.next();
    }
    lexer.tokens
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip(&mut self) {
        if self.peek(0) == '\n' {
            self.line += 1;
        }
        self.at += 1;
    }

    fn next(&mut self) {
        match (self.peek(0), self.peek(1)) {
            (c, _) if c.is_whitespace() => self.skip(),
            ('/', '/') => {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.skip();
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.text(),
            ('\'', _) => self.char_or_lifetime(),
            (c, _) if c.is_alphabetic() || c == '_' => self.word(),
            (c, _) if c.is_ascii_digit() => {
                while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                    self.skip();
                }
            }
            (':', ':') => {
                self.push("::".to_owned());
                self.at += 2;
            }
            (c, _) => {
                self.push(c.to_string());
                self.skip();
            }
        }
    }

    fn push(&mut self, text: String) {
        self.tokens.push(Token { text, line: self.line });
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => (depth, self.at) = (depth + 1, self.at + 2),
                ('*', '/') => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.skip(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn text(&mut self) {
        self.skip();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                self.skip();
            }
            self.skip();
        }
        self.skip();
    }

    fn char_or_lifetime(&mut self) {
        let is_char = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.skip();
        if !is_char {
            // A lifetime: its name follows, and is no word of the program.
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.skip();
            }
            return;
        }
        while self.at < self.chars.len() && self.peek(0) != '\'' {
            if self.peek(0) == '\\' {
                self.skip();
            }
            self.skip();
        }
        self.skip();
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == '#').count();
        match word.as_str() {
            "r" | "br" | "cr" if self.peek(hashes) == '"' => self.raw_text(hashes),
            "b" | "c" if self.peek(0) == '"' => self.text(),
            "b" if self.peek(0) == '\'' => self.char_or_lifetime(),
            // r#type is the word "type".
            "r" if hashes == 1 => self.at += 1,
            _ => self.push(word),
        }
    }

    fn raw_text(&mut self, hashes: usize) {
        self.at += hashes + 1;
        while self.at < self.chars.len() {
            let ends = self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#');
            self.skip();
            if ends {
                self.at += hashes;
                return;
            }
        }
    }
}

/// The index behind the sign that closes the one at `open`.
pub(crate) fn behind_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Without the items that only a test build has; and the lines that those take.
pub(crate) fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, usize) {
    let mut kept = Vec::with_capacity(tokens.len());
    let (mut at, mut lines) = (0, 0);
    while at < tokens.len() {
        if !is_test_attribute(&tokens, at) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let first = tokens[at].line;
        at = behind_item(&tokens, at);
        lines += tokens[at - 1].line - first + 1;
    }
    (kept, lines)
}

fn is_test_attribute(tokens: &[Token], at: usize) -> bool {
    let word = |ahead: usize| tokens.get(at + ahead).map(|token| token.text.as_str());
    if word(0) != Some("#") || word(1) != Some("[") {
        return false;
    }
    let inside = &tokens[at + 2..behind_group(tokens, at + 1) - 1];
    let has = |name: &str| inside.iter().any(|token| token.text == name);
    let first = inside.first().map(|token| token.text.as_str());
    (first == Some("cfg") && has("test") && !has("not")) || (first == Some("test") && inside.len() == 1)
}

/// The index behind the item whose attributes begin at `at`.
fn behind_item(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token.text == "#") {
        at = behind_group(tokens, at + 1);
    }
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => {
                let behind = behind_group(tokens, at);
                // `use a::{b, c};` goes on behind its group.
                let ends = tokens.get(behind).is_none_or(|token| token.text != ";");
                return if ends { behind } else { behind + 1 };
            }
            "(" | "[" => at = behind_group(tokens, at),
            _ => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> String {
        let texts: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
        texts.join(" ")
    }

    #[test]
    fn comments_texts_and_lifetimes_are_no_words() {
        for (source, expected) in [
            ("a // unsafe\nb", "a b"),
            ("a /* x /* y */ unsafe */ b", "a b"),
            (r#"a "unsafe \" still" b"#, "a b"),
            ("a r#\"unsafe \" still\"# b", "a b"),
            ("a br\"x\\\" b", "a b"),
            ("a b\"x\" b'x' b'\\'' b", "a b"),
            ("fn f<'a>(x: &'a str)", "fn f < > ( x : & str )"),
            ("a '\"' b '\\'' c", "a b c"),
            ("r#type::x", "type :: x"),
            ("std::fs::read(0x1F_u8)", "std :: fs :: read ( )"),
        ] {
            assert_eq!(words(source), expected, "{source}");
        }
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let tokens = tokens("a\n/* \n */ \"x\ny\" b\nr\"\n\" c");
        let lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 4, 6]);
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        let kept = |source: &str| {
            let (tokens, lines) = without_tests(tokens(source));
            (tokens.into_iter().map(|token| token.text).collect::<Vec<_>>().join(" "), lines)
        };
        assert_eq!(kept("a\n#[cfg(test)]\nmod tests {\n fn f() { {} }\n}\nb"), ("a b".to_owned(), 4));
        assert_eq!(kept("#[cfg(test)] use a::{b, c}; d"), ("d".to_owned(), 1));
        assert_eq!(kept("#[cfg(all(test, unix))] #[allow(x)] fn f(a: [u8; 2]) {} d"), ("d".to_owned(), 1));
        assert_eq!(kept("#[cfg(not(test))] a"), ("# [ cfg ( not ( test ) ) ] a".to_owned(), 0));
        assert_eq!(kept("#[cfg(test)] mod tests; a"), ("a".to_owned(), 1));
    }
}
