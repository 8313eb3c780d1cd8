use crate::oracle::EDGES_F32;
use ptx_emulator::exec::scalar::compare::{Comparison, Property};

/// PTX's two tables: what each operator says of less, equal, greater and unordered pairs.
const TABLE: [(&str, [bool; 4]); 18] = [
    ("eq", [false, true, false, false]),
    ("ne", [true, false, true, false]),
    ("lt", [true, false, false, false]),
    ("le", [true, true, false, false]),
    ("gt", [false, false, true, false]),
    ("ge", [false, true, true, false]),
    ("equ", [false, true, false, true]),
    ("neu", [true, false, true, true]),
    ("ltu", [true, false, false, true]),
    ("leu", [true, true, false, true]),
    ("gtu", [false, false, true, true]),
    ("geu", [false, true, true, true]),
    ("num", [true, true, true, false]),
    ("nan", [false, false, false, true]),
    ("lo", [true, false, false, false]),
    ("ls", [true, true, false, false]),
    ("hi", [false, false, true, false]),
    ("hs", [false, true, true, false]),
];

#[test]
fn every_operator_on_every_order() {
    let pairs: [(f32, f32, usize); 9] = [
        (1.0, 2.0, 0),
        (f32::NEG_INFINITY, -0.0, 0),
        (0.0, -0.0, 1),
        (f32::INFINITY, f32::INFINITY, 1),
        (f32::from_bits(1), 0.0, 2),
        (3.0, -3.0, 2),
        (f32::NAN, 1.0, 3),
        (1.0, f32::NAN, 3),
        (f32::NAN, f32::NAN, 3),
    ];
    for (name, answers) in TABLE {
        let comparison = Comparison::from_name(name).unwrap_or_else(|| panic!("{name}"));
        for (a, b, order) in pairs {
            assert_eq!(comparison.holds(a, b), answers[order], "{a} {name} {b}");
            assert_eq!(comparison.holds(f64::from(a), f64::from(b)), answers[order], "{a} {name} {b}");
        }
        for (a, b) in [(1u32, u32::MAX), (5, 5), (u32::MAX, 0)] {
            assert_eq!(comparison.holds(a, b), answers[(1 + a.cmp(&b) as i32) as usize], "{a} {name} {b}");
            let (a, b) = (a as i32, b as i32);
            let order = (1 + a.cmp(&b) as i32) as usize;
            assert_eq!(comparison.holds(a, b), answers[order], "{a} {name} {b}");
        }
    }
    assert_eq!(Comparison::from_name("xx"), None);
}

#[test]
fn properties() {
    use std::num::FpCategory;
    for x in EDGES_F32 {
        let category = x.classify();
        let answers = [
            ("finite", !matches!(category, FpCategory::Nan | FpCategory::Infinite)),
            ("infinite", category == FpCategory::Infinite),
            ("number", category != FpCategory::Nan),
            ("notanumber", category == FpCategory::Nan),
            ("normal", matches!(category, FpCategory::Normal | FpCategory::Zero)),
            ("subnormal", category == FpCategory::Subnormal),
        ];
        for (name, want) in answers {
            let property = Property::from_name(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(property.holds_f32(x), want, "{name} of {x:e}");
        }
    }
    assert!(
        Property::Subnormal.holds_f64(f64::from_bits(1)) && !Property::Normal.holds_f64(f64::from_bits(1))
    );
    assert!(Property::Normal.holds_f64(-0.0) && Property::Infinite.holds_f64(f64::NEG_INFINITY));
    assert_eq!(Property::from_name("odd"), None);
}
