use crate::oracle::EDGES_F32;
use ptx_emulator::exec::scalar::compare::{Comparison, Property};

/// PTX's two tables: what each operator says of less, equal, greater and unordered pairs.
const TABLE: [(Comparison, [bool; 4]); 14] = [
    (Comparison::Eq, [false, true, false, false]),
    (Comparison::Ne, [true, false, true, false]),
    (Comparison::Lt, [true, false, false, false]),
    (Comparison::Le, [true, true, false, false]),
    (Comparison::Gt, [false, false, true, false]),
    (Comparison::Ge, [false, true, true, false]),
    (Comparison::Equ, [false, true, false, true]),
    (Comparison::Neu, [true, false, true, true]),
    (Comparison::Ltu, [true, false, false, true]),
    (Comparison::Leu, [true, true, false, true]),
    (Comparison::Gtu, [false, false, true, true]),
    (Comparison::Geu, [false, true, true, true]),
    (Comparison::Num, [true, true, true, false]),
    (Comparison::Nan, [false, false, false, true]),
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
    for (comparison, answers) in TABLE {
        for (a, b, order) in pairs {
            assert_eq!(comparison.holds(a, b), answers[order], "{a} {comparison:?} {b}");
            assert_eq!(
                comparison.holds(f64::from(a), f64::from(b)),
                answers[order],
                "{a} {comparison:?} {b}"
            );
        }
        for (a, b) in [(1u32, u32::MAX), (5, 5), (u32::MAX, 0)] {
            assert_eq!(
                comparison.holds(a, b),
                answers[(1 + a.cmp(&b) as i32) as usize],
                "{a} {comparison:?} {b}"
            );
            let (a, b) = (a as i32, b as i32);
            let order = (1 + a.cmp(&b) as i32) as usize;
            assert_eq!(comparison.holds(a, b), answers[order], "{a} {comparison:?} {b}");
        }
    }
}

#[test]
fn properties() {
    use std::num::FpCategory;
    for x in EDGES_F32 {
        let category = x.classify();
        let answers = [
            (Property::Finite, !matches!(category, FpCategory::Nan | FpCategory::Infinite)),
            (Property::Infinite, category == FpCategory::Infinite),
            (Property::Number, category != FpCategory::Nan),
            (Property::NotANumber, category == FpCategory::Nan),
            (Property::Normal, matches!(category, FpCategory::Normal | FpCategory::Zero)),
            (Property::Subnormal, category == FpCategory::Subnormal),
        ];
        for (property, want) in answers {
            assert_eq!(property.holds_f32(x), want, "{property:?} of {x:e}");
        }
    }
    assert!(
        Property::Subnormal.holds_f64(f64::from_bits(1)) && !Property::Normal.holds_f64(f64::from_bits(1))
    );
    assert!(Property::Normal.holds_f64(-0.0) && Property::Infinite.holds_f64(f64::NEG_INFINITY));
}
