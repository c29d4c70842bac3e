//! The table of what is dialled in an emergency, and the one reader that all programs of this house share.

use usherd_testkit::emergency::rows;

#[test]
fn every_row_is_right_t174() {
    for row in rows() {
        let found = usherd_contract::emergency::is_emergency(&row.dialled, &["110", "112"], row.outside());
        assert_eq!(found, row.is_emergency, "line {}: {:?} with the prefix {:?}", row.line, row.dialled, row.prefix);
    }
}
