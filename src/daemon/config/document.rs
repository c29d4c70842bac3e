//! A file becomes a TOML document, or every reason why not.

use std::path::Path;

use serde_spanned::Spanned;
use toml::de::DeTable;
use usherd_contract::file::Source;

use super::problem::{Problem, Problems};
use super::source::{Files, TENANT_FILE_BYTES_MAX};
use super::words::ProblemCode;

/// Most syntax errors that are shown of one file.
const SYNTAX_ERRORS_MAX: usize = 10;

/// The text of a file, or a complaint why there is none.
pub(super) fn read_file(files: &dyn Files, path: &Path, bytes_max: usize, problems: &mut Problems) -> Option<Source> {
    let shown = path.display().to_string();
    let bytes = match files.read(path, bytes_max) {
        Ok(bytes) => bytes,
        Err(why) => {
            let too_large = why.starts_with("is larger than");
            let code = if too_large { ProblemCode::TooLarge } else { ProblemCode::Unreadable };
            let help = match (bytes_max == TENANT_FILE_BYTES_MAX, too_large) {
                (false, _) => "`usherd config init` writes a commented usherd.toml; --config names another",
                (true, false) => "make it a file that the daemon may read, or take it out of the folder",
                (true, true) => "take out what is not of this tenant, or changes long in force",
            };
            problems.push(Problem::of_file(&shown, format!("the file {why}")).code(code).help(help));
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::new(path, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let source = Source::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let problem = Problem::at(&source, &(at..at + 1), "", "the file is not UTF-8");
            problems
                .push(problem.code(ProblemCode::Unreadable).help("save it as UTF-8, without other encodings in it"));
            None
        }
    }
}

/// The document of a text, as far as it is one; every syntax error is complained about.
pub(super) fn parse<'s>(source: &'s Source, problems: &mut Problems) -> Spanned<DeTable<'s>> {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let span = error.span().unwrap_or(0..0);
        let problem = Problem::at(source, &span, "", format!("not TOML: {}", error.message()));
        problems.push(problem.code(ProblemCode::Syntax).help(syntax_help(error.message())));
    }
    document
}

fn syntax_help(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "keep one of them: each key and each [section] stands once"
    } else if message.contains("date") || message.contains("time") {
        "write a date that exists, as in \"2027-06-16\" or \"2027-06-15T22:00:00Z\""
    } else {
        "write `key = value`, texts in \"quotes\", lists in [brackets], a [section] on a line of its own"
    }
}
