//! argv -> run -> exit code.

/// Gives back to the system what a rush of connections took; the allocator of the C library keeps it for good.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    usherd::cli::run(std::env::args_os())
}
