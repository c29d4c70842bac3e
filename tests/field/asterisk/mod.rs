//! The dial plans of the Asterisk recipe, as shipped, between phones and a trunk, with the example of their heading.

mod agent;
mod calls;
mod faults;
mod lab;
mod transfers;
mod words;
