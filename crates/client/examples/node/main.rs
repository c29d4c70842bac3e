//! A phone system in a page: one client of two is refused, and customers and help get through.
//!
//! `cargo run -p usherd-client --example node -- http://127.0.0.1:7788 acme`, where `acme` is a tenant with one seat.

mod morning;

use std::error::Error;
use std::io;

use usherd_client::Options;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(tenant)) = (arguments.next(), arguments.next()) else {
        return Err("usage: node ADDRESS TENANT, as in http://127.0.0.1:7788 acme".into());
    };
    morning::run(Options::starting_now(address.parse()?, morning::NODE), &tenant, &mut io::stdout()).await
}
