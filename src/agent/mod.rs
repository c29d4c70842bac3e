//! The agent beside a PBX: what a dial plan cannot do.
