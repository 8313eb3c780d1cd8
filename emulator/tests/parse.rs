//! The parser on what nvcc writes (`tests/fixtures`) and on syntax that inline PTX may hold.

use ptx_emulator::ptx::ast::*;
use ptx_emulator::ptx::parse;

const FEATURES: &str = include_str!("fixtures/features.ptx");
const LINE_INFO: &str = include_str!("fixtures/features_lineinfo.ptx");
const TENSOR: &str = include_str!("fixtures/tensor.ptx");
const HOPPER: &str = include_str!("fixtures/hopper.ptx");

fn module(source: &str) -> Module {
    parse(source).unwrap_or_else(|error| panic!("{error}"))
}

fn function<'a>(module: &'a Module, name: &str) -> &'a Function {
    module
        .functions
        .iter()
        .find(|function| function.name == name)
        .unwrap_or_else(|| panic!("no function {name}"))
}

/// All instructions of a body, nested scopes included.
fn instructions(statements: &[Statement]) -> Vec<&Instruction> {
    statements
        .iter()
        .flat_map(|statement| match statement {
            Statement::Instruction(instruction) => vec![instruction],
            Statement::Block(inner) => instructions(inner),
            _ => Vec::new(),
        })
        .collect()
}

fn body<'a>(module: &'a Module, name: &str) -> Vec<&'a Instruction> {
    instructions(function(module, name).body.as_deref().unwrap_or_default())
}

fn find<'a>(all: &[&'a Instruction], start: &str) -> &'a Instruction {
    all.iter().find(|one| one.text.contains(start)).unwrap_or_else(|| panic!("no instruction with {start:?}"))
}

fn register(name: &str) -> Operand {
    Operand::Register(name.to_owned())
}

/// Wraps statements in a module with one kernel.
fn kernel(statements: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n{statements}\n}}\n"
    )
}

fn only_instruction(statement: &str) -> Instruction {
    let module = module(&kernel(statement));
    let all: Vec<_> = body(&module, "k").into_iter().cloned().collect();
    assert_eq!(all.len(), 1, "{statement}");
    all.into_iter().next().unwrap_or_else(|| unreachable!())
}

#[test]
fn module_head_and_variables() {
    let module = module(FEATURES);
    assert_eq!(module.version, (9, 0));
    assert_eq!(module.target, Target { sm: 80, suffix: None });
    let variable =
        |name: &str| module.variables.iter().find(|v| v.name == name).unwrap_or_else(|| panic!("{name}"));
    let table = variable("scale_table");
    assert_eq!(
        (table.space, table.ty, table.align, table.array.as_deref()),
        (Space::Const, ScalarType::B8, Some(4), Some(&[16][..]))
    );
    assert_eq!(table.init.get(2..4), Some(&[Initial::Integer(128), Initial::Integer(63)][..]));
    assert_eq!(variable("counter").init, [Initial::Integer(7)]);
    let symbol = Initial::Symbol { name: "counter".into(), offset: 0, generic: true };
    assert_eq!(variable("counter_address").init, [symbol]);
    let dynamic = variable("dynamic_tile");
    assert_eq!(
        (dynamic.linkage, dynamic.space, dynamic.array.as_deref()),
        (Linkage::Extern, Space::Shared, Some(&[][..]))
    );
    assert_eq!(variable("$str").array.as_deref(), Some(&[6][..]));
}

#[test]
fn kernel_heads() {
    let module = module(FEATURES);
    let softmax = function(&module, "softmax_rows");
    assert_eq!(softmax.kind, FunctionKind::Entry);
    assert_eq!(softmax.linkage, Linkage::Visible);
    assert_eq!(softmax.directives.maxntid, Some([256, 1, 1]));
    assert_eq!(softmax.directives.minnctapersm, Some(2));
    assert_eq!(softmax.params.len(), 4);
    let shape = softmax.params.last().unwrap_or_else(|| unreachable!());
    assert_eq!((shape.space, shape.align, shape.array.as_deref()), (Space::Param, Some(8), Some(&[32][..])));
    let printf = function(&module, "vprintf");
    assert_eq!((printf.body.is_none(), printf.linkage, printf.returns.len()), (true, Linkage::Extern, 1));
    let hypot = function(&module, "_Z10hypot_likeffi");
    assert_eq!((hypot.kind, hypot.params.len(), hypot.returns.len()), (FunctionKind::Device, 3, 1));
    let Some(Statement::Variable(first)) = hypot.body.as_deref().and_then(<[_]>::first) else {
        panic!("no register")
    };
    assert_eq!((first.name.as_str(), first.count, first.ty), ("%p", Some(6), ScalarType::Pred));
}

#[test]
fn instructions_of_a_compiled_kernel() {
    let module = module(FEATURES);
    let all = body(&module, "softmax_rows");
    let shuffle = find(&all, "shfl.sync.bfly");
    assert_eq!(shuffle.modifiers, ["sync", "bfly", "b32"]);
    assert_eq!(
        shuffle.operands.first(),
        Some(&Operand::Pair(register("%r15").into(), register("%p3").into()))
    );
    assert_eq!(find(&all, "fma.rm").modifiers, ["rm", "f32"]);
    assert_eq!(find(&all, "0f4B400001").operands, [register("%f38"), Operand::Float32(0x4B40_0001)]);
    assert_eq!(find(&all, "and.b32 %r69").operands.last(), Some(&Operand::Integer(-8_388_608)));
    assert_eq!(
        find(&all, "mov.u32 %r41, %ctaid.x").operands.last(),
        Some(&Operand::Special("%ctaid.x".into()))
    );
    let guarded = find(&all, "@%p1 bra");
    assert_eq!(guarded.guard, Some(Guard { register: "%p1".into(), negated: false }));
    assert_eq!(guarded.operands, [Operand::Symbol { name: "$L__BB1_3".into(), offset: 0 }]);
    let load = find(&all, "[%rd6+8]");
    let base = AddressBase::Register("%rd6".into());
    assert_eq!(load.operands.last(), Some(&Operand::Address { base, offset: 8 }));
    let call = find(&all, "hypot");
    assert_eq!(call.operands.len(), 3);
    assert!(matches!(call.operands.last(), Some(Operand::List(arguments)) if arguments.len() == 3));
    assert_eq!(call.text, "call.uni (retval0), _Z10hypot_likeffi, ( param0, param1, param2 );");
    let line =
        FEATURES.lines().position(|line| line.contains("shfl.sync.bfly")).unwrap_or_default() as u32 + 1;
    assert_eq!(shuffle.line, line);
}

#[test]
fn bare_names_are_registers_where_declared() {
    let module = module(FEATURES);
    let halves = body(&module, "_Z6halvesP14__nv_bfloat162PK6__halfPdPyi");
    assert_eq!(find(&halves, "setp.ne.b32 p").operands.first(), Some(&register("p")));
    assert_eq!(find(&halves, "add.u32 t0").guard, Some(Guard { register: "p".into(), negated: false }));
    assert_eq!(find(&halves, "add.u32 t0").operands.first(), Some(&register("t0")));
    assert_eq!(find(&halves, "selp.b32").operands.last(), Some(&Operand::Negated("p".into())));
    let pair = Operand::Vector(vec![register("low"), register("low")]);
    assert_eq!(find(&halves, "mov.b32 %r5").operands.last(), Some(&pair));
    let outside = only_instruction("{ .reg .b32 t<3>; }\nmov.b32 %r1, t3;");
    assert_eq!(outside.operands.last(), Some(&Operand::Symbol { name: "t3".into(), offset: 0 }));
}

#[test]
fn line_information_is_skipped() {
    let (plain, lines) = (module(FEATURES), module(LINE_INFO));
    assert_eq!(plain.functions.len(), lines.functions.len());
    assert_eq!(body(&plain, "_Z10hypot_likeffi").len(), body(&lines, "_Z10hypot_likeffi").len());
}

#[test]
fn tensor_core_instructions() {
    let module = module(TENSOR);
    let all = body(&module, "mma_tile");
    assert_eq!(find(&all, "cp.async.cg").modifiers, ["async", "cg", "shared", "global", "L2::128B"]);
    assert_eq!(find(&all, "cp.async.wait_group").operands, [Operand::Integer(0)]);
    let mma = find(&all, "mma.sync");
    let widths: Vec<_> = mma
        .operands
        .iter()
        .map(|one| if let Operand::Vector(parts) = one { parts.len() } else { 0 })
        .collect();
    assert_eq!(widths, [4, 4, 2, 4]);
}

#[test]
fn hopper_instructions() {
    let module = module(HOPPER);
    assert_eq!(module.target, Target { sm: 90, suffix: Some('a') });
    assert_eq!(function(&module, "wgmma_tile").directives.reqnctapercluster, Some([2, 1, 1]));
    assert!(function(&module, "wgmma_tile").directives.explicitcluster);
    let all = body(&module, "wgmma_tile");
    let copy = find(&all, "cp.async.bulk.tensor");
    assert_eq!(
        copy.modifiers,
        ["async", "bulk", "tensor", "2d", "shared::cluster", "global", "mbarrier::complete_tx::bytes"]
    );
    let coordinates = vec![register("%r8"), register("%r9")];
    let base = AddressBase::Register("%rd3".into());
    assert_eq!(copy.operands.get(1), Some(&Operand::TensorAddress { base, offset: 0, coordinates }));
    assert_eq!(find(&all, "mbarrier.arrive").operands.first(), Some(&Operand::Sink));
    assert!(
        matches!(find(&all, "wgmma.mma_async").operands.first(), Some(Operand::Vector(parts)) if parts.len() == 8)
    );
}

#[test]
fn operands_of_every_shape() {
    let operand = |text: &str| {
        only_instruction(&format!("mov.b64 %rd1, {text};"))
            .operands
            .into_iter()
            .nth(1)
            .unwrap_or_else(|| unreachable!())
    };
    let address = |base, offset| Operand::Address { base, offset };
    let (rd, symbol) = (AddressBase::Register("%rd2".into()), AddressBase::Symbol("sym".into()));
    let cases = [
        ("[%rd2]", address(rd.clone(), 0)),
        ("[%rd2+16]", address(rd.clone(), 16)),
        ("[%rd2+-4]", address(rd.clone(), -4)),
        ("[%rd2-4]", address(rd, -4)),
        ("[sym+4]", address(symbol, 4)),
        ("[64]", address(AddressBase::Absolute, 64)),
        ("sym+8", Operand::Symbol { name: "sym".into(), offset: 8 }),
        ("-1", Operand::Integer(-1)),
        ("0xFFFFFFFFFFFFFFFF", Operand::Integer(i128::from(u64::MAX))),
        ("-9223372036854775808", Operand::Integer(i128::from(i64::MIN))),
        ("017", Operand::Integer(15)),
        ("0b101", Operand::Integer(5)),
        ("1 + 2 * 3 << 1", Operand::Integer(14)),
        ("(1 + 2) * ~-4", Operand::Integer(9)),
        ("WARP_SZ - 1", Operand::Integer(31)),
        ("0d3FF8000000000000", Operand::Float64(1.5f64.to_bits())),
        ("1.5", Operand::Float64(1.5f64.to_bits())),
        ("-1.5", Operand::Float64((-1.5f64).to_bits())),
        ("_", Operand::Sink),
        ("!%p1", Operand::Negated("%p1".into())),
        ("%lanemask_lt", Operand::Special("%lanemask_lt".into())),
        ("%envreg3", Operand::Special("%envreg3".into())),
        ("%pm_value", register("%pm_value")),
        ("%v.y", register("%v.y")),
        ("_|%p1", Operand::Pair(Operand::Sink.into(), register("%p1").into())),
        ("{%r1, _}", Operand::Vector(vec![register("%r1"), Operand::Sink])),
    ];
    for (text, expected) in cases {
        assert_eq!(operand(text), expected, "{text}");
    }
}

#[test]
fn branch_tables_and_prototypes() {
    let text = kernel(
        "ts: .branchtargets L0, L1;\n\
         pr: .callprototype (.param .b32 _) _ (.param .b32 _, .param .align 4 .b8 _[8]);\n\
         L0:\nL1: @!%p1 brx.idx.uni %r1, ts;\ncall (r), %rd1, (a, b), pr;\ncall _Z3foov;\n.pragma \"nounroll\";;",
    );
    let module = module(&text);
    let statements = function(&module, "k").body.as_deref().unwrap_or_default();
    let targets = vec!["L0".to_owned(), "L1".to_owned()];
    assert_eq!(statements.first(), Some(&Statement::BranchTargets { name: "ts".into(), targets, line: 6 }));
    assert!(
        matches!(statements.get(1), Some(Statement::CallPrototype { params, returns, .. }) if params.len() == 2 && returns.len() == 1)
    );
    assert_eq!(body(&module, "k").len(), 3);
}

#[test]
fn declarations_of_every_shape() {
    let source = ".version 8.0\n.target sm_75, debug\n\
        .visible .global .align 16 .v4 .f32 v = {0f3F800000, 1.5, -2, 0};\n\
        .global .u32 m[2][3] = {{1, 2, 3}, {4, 5, 6}};\n.global .u64 p[] = {v+8, generic(m)+4, m};\n\
        .weak .const .s16 w, x = -3;\n.extern .shared .align 8 .b64 s[];\n.pragma \"x\";\n.shared .b32 t[8];\n\
        .func (.reg .b32 out) f (.reg .b32 in, .param .u64 .ptr .global .align 4 q) .noreturn;\n\
        .entry e() .reqntid 8, 4 .maxnreg 64 .maxclusterrank 8 { ret; }\n";
    let module = module(source);
    let names: Vec<_> = module.variables.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["v", "m", "p", "w", "x", "s", "t"]);
    assert_eq!(module.variables.first().map(|v| (v.vector, v.init.len())), Some((4, 4)));
    assert_eq!(module.variables.get(1).map(|v| (v.array.clone(), v.init.len())), Some((Some(vec![2, 3]), 6)));
    let generic = Initial::Symbol { name: "m".into(), offset: 4, generic: true };
    assert_eq!(module.variables.get(2).and_then(|v| v.init.get(1)), Some(&generic));
    assert_eq!(function(&module, "e").directives.reqntid, Some([8, 4, 1]));
    assert_eq!(function(&module, "e").directives.maxnreg, Some(64));
}
