//! Blocks: their warps take turns in an order that comes from the seed.
use super::fault::{Fault, Place};
use super::machine::{Launch, Machine, Pause};
use super::random::Random;
use super::special::ThreadShape;
use super::warp::Warp;
use super::{FaultKind, Report};

/// A turn lasts at most this many instructions.
const SLICE: u32 = 512;
/// A warp that stayed diverged for this many turns runs its groups in random order, so that none starves.
const PATIENCE: u32 = 16;

/// Runs blocks one after the other on one host thread.
pub(crate) struct Runner<'a> {
    launch: &'a Launch<'a>,
    pub(crate) machine: Machine<'a>,
    warps: Vec<Warp>,
    /// Instructions of all blocks so far.
    pub(crate) steps: u64,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(launch: &'a Launch<'a>) -> Self {
        let threads: u32 = launch.config.block.iter().product();
        let warps = (0..threads.div_ceil(32)).map(|index| Warp::new(launch.code, index)).collect();
        Runner { launch, machine: Machine::new(launch), warps, steps: 0 }
    }

    /// Runs the block of that index to its end.
    pub(crate) fn run(&mut self, index: u64) -> Result<(), Box<Report>> {
        let config = self.launch.config;
        let block = [
            (index % u64::from(config.grid[0])) as u32,
            (index / u64::from(config.grid[0]) % u64::from(config.grid[1])) as u32,
            (index / u64::from(config.grid[0]) / u64::from(config.grid[1])) as u32,
        ];
        let settings = self.launch.settings;
        let mut random = Random::new(settings.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.machine.reset(index as u32, self.warps.len());
        let warps = self.warps.len() as u32;
        for warp in &mut self.warps {
            let shape = ThreadShape {
                grid: config.grid,
                block: config.block,
                block_at: block,
                warp: warp.index,
                warps,
                multiprocessor: (index % u64::from(settings.multiprocessors.max(1))) as u32,
                multiprocessors: settings.multiprocessors,
                dynamic_shared: config.dynamic_shared,
                total_shared: self.machine.shared.bytes(),
            };
            warp.start(self.launch.code, &shape);
        }
        let mut ready: Vec<usize> = (0..self.warps.len()).collect();
        while !ready.is_empty() || self.any_live() {
            if ready.is_empty() {
                self.unblock(block)?;
            } else {
                let pick = random.below(ready.len() as u32) as usize;
                let slice = 1 + random.below(SLICE);
                let warp = &mut self.warps[ready[pick]];
                let at = warp.pc;
                match self.machine.run(warp, slice) {
                    Err(fault) => {
                        let at = if warp.active == 0 { at } else { warp.pc };
                        return Err(Box::new(place(self.launch, block, warp.index, at).report(*fault)));
                    }
                    Ok(Pause::Slice) => rotate(warp, &mut random),
                    Ok(Pause::Barrier) => {}
                    Ok(Pause::Done) => {
                        ready.swap_remove(pick);
                    }
                }
                ready.retain(|k| !self.warps[*k].parked);
            }
            while let Some(completion) = self.machine.barriers.completed() {
                for woken in completion.woken() {
                    let warp = &mut self.warps[woken as usize];
                    completion.finish(warp, &self.launch.code.instructions);
                    warp.parked = false;
                    ready.push(woken as usize);
                }
            }
            if settings.instruction_limit.is_some_and(|limit| self.machine.steps > limit) {
                return Err(Box::new(self.too_long(block, &ready)));
            }
        }
        self.steps += self.machine.steps;
        Ok(())
    }

    fn any_live(&self) -> bool {
        self.warps.iter().any(|warp| warp.live != 0)
    }

    /// Every warp has exited or waits at a barrier: decides what goes on, if anything does.
    fn unblock(&mut self, block: [u32; 3]) -> Result<(), Box<Report>> {
        let live = self.warps.iter().filter(|warp| warp.live != 0).count() as u32;
        if !self.launch.settings.checks.barrier && self.machine.complete_without_exited(live) {
            return Ok(());
        }
        let exited = self.warps.iter().filter(|warp| warp.live == 0).count();
        let mut stalls: Vec<(usize, Vec<u32>, u32)> = self.machine.barriers.stalled().collect();
        stalls.sort();
        let list: Vec<String> = stalls
            .iter()
            .map(|(id, warps, at)| {
                let line = self.launch.code.instructions[*at as usize].line;
                format!("warps {warps:?} at barrier {id} (line {line})")
            })
            .collect();
        let (warp, at) = stalls.first().map_or((0, 0), |(_, warps, at)| (warps[0], *at));
        let (kind, message) = if exited > 0 {
            let message = format!(
                "the block cannot go on: {} wait for {exited} warps that have exited; every thread must reach the barrier",
                list.join(", ")
            );
            (FaultKind::DivergentBarrier, message)
        } else {
            (FaultKind::Deadlock, format!("the block cannot go on: {}", list.join(", ")))
        };
        let fault = Fault::new(kind, 0, message);
        Err(Box::new(place(self.launch, block, warp, at).report(*fault)))
    }

    fn too_long(&self, block: [u32; 3], ready: &[usize]) -> Report {
        let warp = ready.first().map_or(0, |k| *k);
        let at = self.warps.get(warp).map_or(0, |warp| warp.pc);
        let message = format!(
            "the block ran {} warp instructions without an end; a loop that never ends, or raise the limit",
            self.machine.steps
        );
        let fault = Fault::new(FaultKind::InstructionLimit, 0, message);
        place(self.launch, block, warp as u32, at).report(*fault)
    }
}

fn place<'a>(launch: &'a Launch<'a>, block: [u32; 3], warp: u32, at: u32) -> Place<'a> {
    Place { kernel: launch.kernel, code: launch.code, block, block_size: launch.config.block, warp, at }
}

/// After many turns apart, another group of lanes gets the next turn: the one that runs may wait for it.
fn rotate(warp: &mut Warp, random: &mut Random) {
    if warp.together() || warp.active == 0 {
        warp.apart = 0;
        return;
    }
    warp.apart += 1;
    if warp.apart > PATIENCE {
        warp.spread();
        warp.favour(random.next());
    }
}
