//! The client of a PBX node: asks in time, allows where nobody answers, and reports it later.
