//! The pretended device and the checks, from environment variables and from `ptxemu_set`.

use crate::exec::{Checks, Settings};

/// When work on streams runs, see the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// When it is enqueued.
    Eager,
    /// When something waits for it.
    Lazy,
}

/// Everything a user can set. One setting has one name: `PTX_EMULATOR_SEED` in the environment is `seed` in `ptxemu_set`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The device as the executor sees it.
    pub(crate) settings: Settings,
    /// Device memory, bytes.
    pub(crate) memory_bytes: u64,
    /// The CUDA version that the driver pretends to be: 1000 major + 10 minor.
    pub(crate) driver_version: u32,
    /// When work on streams runs.
    pub(crate) streams: Streams,
    /// No report on standard error.
    pub(crate) quiet: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            settings: Settings::default(),
            memory_bytes: 4 << 30,
            driver_version: 13_000,
            streams: Streams::Lazy,
            quiet: false,
        }
    }
}

/// Names of the settings, as `ptxemu_set` takes them.
pub(crate) const NAMES: &[&str] = &[
    "cc",
    "multiprocessors",
    "seed",
    "checks",
    "workers",
    "memory",
    "instruction_limit",
    "driver",
    "streams",
    "quiet",
];

impl Config {
    /// The defaults, changed by the `PTX_EMULATOR_*` variables. A value that cannot be read is reported on standard error and left out.
    pub(crate) fn from_environment() -> Config {
        let mut config = Config::default();
        for name in NAMES {
            let variable = format!("PTX_EMULATOR_{}", name.to_uppercase());
            if let Ok(value) = std::env::var(&variable)
                && let Err(message) = config.set(name, &value)
            {
                eprintln!("ptx-emulator: {variable}: {message}");
            }
        }
        config
    }

    /// Changes one setting.
    ///
    /// # Errors
    /// A sentence that says what the setting accepts.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = value.trim();
        match name {
            "cc" => {
                self.settings.compute_capability =
                    version(value).ok_or("expected a compute capability such as 8.0")?
            }
            "multiprocessors" => self.settings.multiprocessors = positive(value)?,
            "seed" => self.settings.seed = number(value)?,
            "checks" => self.settings.checks = checks(value)?,
            "workers" => self.settings.workers = positive::<usize>(value)?,
            "memory" => self.memory_bytes = bytes(value)?,
            "instruction_limit" => {
                self.settings.instruction_limit = if value == "none" { None } else { Some(number(value)?) }
            }
            "driver" => {
                let (major, minor) = version(value).ok_or("expected a CUDA version such as 12.8")?;
                self.driver_version = major.saturating_mul(1000).saturating_add(minor.saturating_mul(10));
            }
            "streams" => {
                self.streams = match value {
                    "eager" => Streams::Eager,
                    "lazy" => Streams::Lazy,
                    _ => return Err(format!("expected eager or lazy, got `{value}`")),
                }
            }
            "quiet" => self.quiet = !matches!(value, "" | "0" | "false"),
            _ => return Err(format!("no such setting; the settings are {}", NAMES.join(", "))),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.replace('_', "").parse().map_err(|_| format!("expected a whole number, got `{value}`"))
}

fn positive<T: std::str::FromStr + PartialOrd + From<u8>>(value: &str) -> Result<T, String> {
    let parsed: T = number(value)?;
    if parsed < T::from(1) { Err("expected at least 1".to_owned()) } else { Ok(parsed) }
}

/// `8.0` -> (8, 0).
fn version(value: &str) -> Option<(u32, u32)> {
    let (major, minor) = value.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `1000`, `64k`, `512m`, `8g` (binary multiples).
fn bytes(value: &str) -> Result<u64, String> {
    let lower = value.to_lowercase();
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (lower.as_str(), 0),
    };
    let count: u64 = number(digits)?;
    count.checked_mul(1 << shift).ok_or_else(|| format!("{value} does not fit in 64 bits"))
}

/// `all`, `none`, or a list such as `bounds,race`, or `all,-race`, or `all,redundant`.
fn checks(value: &str) -> Result<Checks, String> {
    let mut result = Checks::NONE;
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, on) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
        match name {
            "all" => result = if on { Checks::ALL } else { Checks::NONE },
            "none" => result = Checks::NONE,
            "bounds" => result.bounds = on,
            "init" => result.init = on,
            "race" => result.race = on,
            "barrier" => result.barrier = on,
            "redundant" => result.redundant = on,
            _ => {
                return Err(format!(
                    "no check `{name}`; the checks are all, none, bounds, init, race, barrier, redundant (not in all), a minus \
                     in front takes one away"
                ));
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let mut config = Config::default();
        for (name, value) in [
            ("cc", "9.0"),
            ("seed", "7"),
            ("memory", "64m"),
            ("checks", "all,-race"),
            ("driver", "12.0"),
            ("quiet", "1"),
        ] {
            config.set(name, value).unwrap();
        }
        assert_eq!(config.settings.compute_capability, (9, 0));
        assert_eq!(config.settings.seed, 7);
        assert_eq!(config.memory_bytes, 64 << 20);
        assert!(config.settings.checks.bounds && !config.settings.checks.race);
        assert!(!config.settings.checks.redundant, "only if asked for");
        assert_eq!(config.driver_version, 12_000);
        assert!(config.quiet);
    }

    #[test]
    fn bad_settings_say_what_is_expected() {
        let mut config = Config::default();
        assert!(config.set("cc", "eight").unwrap_err().contains("8.0"));
        assert!(config.set("checks", "speed").unwrap_err().contains("barrier"));
        assert!(config.set("colour", "red").unwrap_err().contains("multiprocessors"));
        assert!(config.set("memory", "99999999999g").unwrap_err().contains("64 bits"));
        assert!(config.set("workers", "0").unwrap_err().contains("at least 1"));
    }
}
