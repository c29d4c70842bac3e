//! `config check --token-file`: whether the daemon would take a token, judged as it judges one.

use std::path::Path;

use super::connection::read_token;
use super::failure::Failure;
use crate::daemon::access::auth::{TokenHash, token_role};
use crate::daemon::config::{Config, Problem, ProblemCode};

const FORM: &str = "a token is ush_ROLE_ and 64 hexadecimal digits or 43 characters of base64url: \
                    TOKEN=ush_node_$(openssl rand -hex 32)";

/// The identity behind the token of a file, or the problem with it.
///
/// # Errors
/// The file cannot be read.
pub(super) fn look(path: &Path, config: &Config) -> Result<Result<String, Problem>, Failure> {
    let token = read_token(path)?;
    let wrong = |message: String, help: &str| {
        let problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::BadToken);
        Ok(Err(problem.help(help)))
    };
    let presented = TokenHash::of(&token);
    let configured = config.settings.auth.tokens.iter().find(|known| TokenHash::from_bytes(known.sha256) == presented);
    let Some(role) = token_role(&token) else {
        return wrong("the token does not have the form that the daemon accepts".to_owned(), FORM);
    };
    match configured {
        None => {
            let line = TokenHash::of(&format!("{token}\n"));
            let with_line = config.settings.auth.tokens.iter().any(|known| TokenHash::from_bytes(known.sha256) == line);
            let help = if with_line {
                "its sha256 in usherd.toml was made with a line end: use `printf %s \"$TOKEN\" | sha256sum`, not echo"
            } else {
                "write its sha256 into [[auth.tokens]], as `printf %s \"$TOKEN\" | sha256sum` prints it"
            };
            wrong("the token is not one of [[auth.tokens]]".to_owned(), help)
        }
        Some(known) if known.role.as_str() != role.as_str() => {
            let message = format!(
                "the token says role {}, and `{}` of [[auth.tokens]] has role {}: it is not accepted",
                role.as_str(),
                known.id,
                known.role.as_str()
            );
            wrong(message, "make a new token that names the role it has")
        }
        Some(known) => Ok(Ok(format!("the token is {}, role {}", known.id, known.role.as_str()))),
    }
}
