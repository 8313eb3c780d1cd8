//! Generates kernels around instructions and runs them.

use ptx_emulator::exec::{Checks, LaunchConfig, Program, Settings, launch};
use ptx_emulator::memory::DeviceMemory;
use ptx_emulator::ptx::ast::ScalarType;

/// Threads of a block in the generated launches.
pub(crate) const BLOCK: usize = 128;
/// Bytes of one operand in the buffers.
const SLOT: usize = 8;
/// Operands of a sample, and results.
const SLOTS: usize = 12;

/// What every module starts with: a table in constant memory and a function to call.
pub(crate) const HEAD: &str = ".version 8.0\n.target sm_90\n.address_size 64\n\
    .const .align 16 .b8 table[16] = {0xF1, 0x82, 3, 4, 5, 6, 7, 0x88, 9, 10, 11, 12, 13, 14, 15, 16};\n\
    .func (.param .b32 doubled) twice(.param .b32 number)\n{\n.reg .b32 %t;\nld.param::func.u32 %t, [number];\n\
    add.u32 %t, %t, %t;\nst.param::func.b32 [doubled], %t;\nret.uni;\n}\n";

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.compute_capability = (9, 0);
    settings.checks = Checks::ALL;
    settings
}

/// Instructions from sources `%s0 …` to destinations `%d0 …`.
pub(crate) struct Snippet {
    pub(crate) body: String,
    pub(crate) src: Vec<ScalarType>,
    pub(crate) dst: Vec<ScalarType>,
}

/// The register type that holds a value.
fn register(ty: ScalarType) -> &'static str {
    match (ty, ty.bytes()) {
        (ScalarType::Pred, _) => "pred",
        (_, 1 | 2) => "b16",
        (_, 4) => "b32",
        _ => "b64",
    }
}

/// How a value lies in memory.
fn stored(ty: ScalarType) -> &'static str {
    match (ty, ty.bytes()) {
        (ScalarType::Pred, _) => "u32",
        (_, 1) => "u8",
        (_, 2) => "b16",
        (_, 4) => "b32",
        _ => "b64",
    }
}

fn kernel(name: &str, snippet: &Snippet) -> String {
    let mut text = format!(
        ".visible .entry {name}(.param .u64 in, .param .u64 out)\n{{\n.reg .b64 %a<4>;\n.reg .b32 %i<4>;\n\
         mov.u32 %i0, %tid.x;\nmov.u32 %i1, %ctaid.x;\nmov.u32 %i2, %ntid.x;\nmad.lo.u32 %i0, %i1, %i2, %i0;\n\
         ld.param.u64 %a0, [in];\nld.param.u64 %a1, [out];\nmul.wide.u32 %a2, %i0, {};\n\
         add.u64 %a0, %a0, %a2;\nadd.u64 %a1, %a1, %a2;\n",
        SLOT * SLOTS
    );
    for (k, ty) in snippet.src.iter().enumerate() {
        let (register, stored, at) = (register(*ty), stored(*ty), SLOT * k);
        text += &format!(".reg .{register} %s{k};\n");
        if *ty == ScalarType::Pred {
            text += &format!("ld.global.u32 %i3, [%a0+{at}];\nsetp.ne.u32 %s{k}, %i3, 0;\n");
        } else {
            text += &format!("ld.global.{stored} %s{k}, [%a0+{at}];\n");
        }
    }
    for (k, ty) in snippet.dst.iter().enumerate() {
        text += &format!(".reg .{} %d{k};\n", register(*ty));
    }
    text += &snippet.body;
    text += "\n";
    for (k, ty) in snippet.dst.iter().enumerate() {
        let (stored, at) = (stored(*ty), SLOT * k);
        if *ty == ScalarType::Pred {
            text += &format!("selp.u32 %i3, 1, 0, %d{k};\nst.global.u32 [%a1+{at}], %i3;\n");
        } else {
            text += &format!("st.global.{stored} [%a1+{at}], %d{k};\n");
        }
    }
    text + "ret;\n}\n"
}

/// Bits that a value of the type has.
pub(crate) fn mask(ty: ScalarType) -> u64 {
    match ty {
        ScalarType::Pred => 1,
        _ => u64::MAX >> (64 - 8 * ty.bytes().min(8)),
    }
}

/// Runs each snippet on its samples: one thread per sample, results in order of destinations.
pub(crate) fn run(snippets: &[&Snippet], samples: &[Vec<Vec<u64>>]) -> Vec<Vec<Vec<u64>>> {
    let names: Vec<String> = (0..snippets.len()).map(|k| format!("k{k}")).collect();
    let kernels: String = names.iter().zip(snippets).map(|(name, snippet)| kernel(name, snippet)).collect();
    let (memory, settings) = (DeviceMemory::new(1 << 30), settings());
    let program = Program::load(&format!("{HEAD}{kernels}"), &settings, &memory)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut results = Vec::new();
    for ((name, snippet), samples) in names.iter().zip(snippets).zip(samples) {
        let blocks = samples.len().div_ceil(BLOCK).max(1);
        let threads = blocks * BLOCK;
        let mut image = vec![0u8; threads * SLOTS * SLOT];
        for (thread, slots) in image.chunks_exact_mut(SLOTS * SLOT).enumerate() {
            // Threads beyond the samples repeat the last one.
            let sample = &samples[thread.min(samples.len() - 1)];
            for (slot, bits) in slots.chunks_exact_mut(SLOT).zip(sample) {
                slot.copy_from_slice(&bits.to_le_bytes());
            }
        }
        let bytes = image.len() as u64;
        let (input, output) = (allocate(&memory, bytes), allocate(&memory, bytes));
        memory.copy_from_host(input, &image).unwrap_or_else(|error| panic!("{error}"));
        memory.fill8(output, 0xA5, bytes).unwrap_or_else(|error| panic!("{error}"));
        let params = [input.to_le_bytes(), output.to_le_bytes()].concat();
        let config =
            LaunchConfig { grid: [blocks as u32, 1, 1], block: [BLOCK as u32, 1, 1], dynamic_shared: 0 };
        let kernel = program.kernel(name).unwrap_or_else(|| panic!("{name}"));
        launch(&program, kernel, &config, &params, &memory, &settings)
            .unwrap_or_else(|report| panic!("{}\n{report}", snippet.body));
        memory.copy_to_host(&mut image, output).unwrap_or_else(|error| panic!("{error}"));
        results.push(
            image
                .chunks_exact(SLOTS * SLOT)
                .take(samples.len())
                .map(|slots| read(slots, &snippet.dst))
                .collect(),
        );
        for address in [input, output] {
            memory.free(address).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    results
}

fn read(slots: &[u8], types: &[ScalarType]) -> Vec<u64> {
    let words = slots.chunks_exact(SLOT).map(|word| u64::from_le_bytes(word.try_into().unwrap_or([0; 8])));
    words.zip(types).map(|(word, ty)| word & mask(*ty)).collect()
}

pub(crate) fn allocate(memory: &DeviceMemory, bytes: u64) -> u64 {
    memory.alloc(bytes).unwrap_or_else(|error| panic!("{error}"))
}
