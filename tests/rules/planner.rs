//! The scenarios of the rule book that the planner decides (9.5).

use usherd_subscription::sizing::{Mix, brochure};

/// Row, employees of type 1 to 4, tenths, and the brochure's figure.
const ROWS: [(&str, [u32; 4], u32, u32); 5] = [
    ("T157", [6, 8, 6, 10], 158, 16),
    ("T158", [4, 12, 4, 10], 162, 17),
    ("T160", [0, 0, 0, 0], 0, 0),
    ("T161", [0, 0, 0, 1], 1, 1),
    ("T163", [3, 3, 3, 3], 69, 7),
];

#[test]
fn the_brochure_figure_rounds_up_once_t157_t158_t160_t161_t163() {
    for (row, employees, tenths, seats) in ROWS {
        let got = brochure(Mix::new(employees).unwrap());
        assert_eq!((got.employees, got.tenths, got.seats), (employees.iter().sum(), tenths, seats), "{row}");
    }
}
