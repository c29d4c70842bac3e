//! argv -> run -> exit code.
fn main() -> std::process::ExitCode {
    usherd::cli::run(std::env::args_os())
}
