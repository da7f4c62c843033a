//! *CPU*: whether it has the instructions that the program was built for.
//!
//! `scripts/build-lambda.sh` builds the function for x86-64-v3. Without this check, an older CPU
//! would end it with SIGILL and without a word. The check asks CPUID, because
//! `is_x86_feature_detected!` is always true for a feature that the compiler may assume.

/// The log line of a function whose CPU is too old. It is constant, because the code that formats
/// others is compiled for the newer CPU too.
const TOO_OLD: &str = concat!(
    r#"{"level":"ERROR","message":"the CPU lacks AVX2 or another instruction set of x86-64-v3, "#,
    r#"which the function was built for: build it with RUSTFLAGS='-C target-cpu=x86-64'"}"#,
    "\n"
);

/// Returns the line to log before the program ends, if it was built for x86-64-v3 and the CPU lacks
/// one of its instruction sets.
pub fn complaint() -> Option<&'static str> {
    let needs_v3 = cfg!(all(target_arch = "x86_64", target_feature = "avx2"));
    (needs_v3 && !has_v3()).then_some(TOO_OLD)
}

#[cfg(target_arch = "x86_64")]
fn has_v3() -> bool {
    x86_64::has_v3(std::arch::x86_64::__cpuid_count)
}

#[cfg(not(target_arch = "x86_64"))]
fn has_v3() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::CpuidResult;

    /// Bits of ECX of leaf 1: FMA, MOVBE, OSXSAVE (the system saves the wide registers), AVX, F16C.
    const LEAF_1_ECX: u32 = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29;
    /// Bits of EBX of leaf 7: BMI1, AVX2, BMI2.
    const LEAF_7_EBX: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    /// The first of the extended leaves.
    const EXTENDED: u32 = 1 << 31;
    /// The bit of ECX of the second extended leaf: LZCNT.
    const EXTENDED_1_ECX: u32 = 1 << 5;

    /// Whether a CPU has all of x86-64-v3, by its CPUID: the registers of a leaf and a subleaf.
    /// Source: x86-64 psABI, table 3.1; those of v2 are older than AVX.
    pub(super) fn has_v3(cpuid: impl Fn(u32, u32) -> CpuidResult) -> bool {
        let has = |register: u32, bits: u32| register & bits == bits;
        // A leaf after the last one has the registers of another.
        cpuid(0, 0).eax >= 7
            && cpuid(EXTENDED, 0).eax > EXTENDED
            && has(cpuid(1, 0).ecx, LEAF_1_ECX)
            && has(cpuid(7, 0).ebx, LEAF_7_EBX)
            && has(cpuid(EXTENDED + 1, 0).ecx, EXTENDED_1_ECX)
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::arch::x86_64::{__cpuid_count, CpuidResult};

    use super::x86_64::has_v3;

    /// What CPUID of a CPU with all of x86-64-v3 has in the registers that matter.
    const COMPLETE: [(u32, CpuidResult); 5] = [
        (0, registers(7, 0, 0)),
        (1, registers(0, 0, 0x3840_1000)),
        (7, registers(0, 0x128, 0)),
        (0x8000_0000, registers(0x8000_0008, 0, 0)),
        (0x8000_0001, registers(0, 0, 0x20)),
    ];

    const fn registers(eax: u32, ebx: u32, ecx: u32) -> CpuidResult {
        CpuidResult {
            eax,
            ebx,
            ecx,
            edx: 0,
        }
    }

    fn is_complete(leaves: &[(u32, CpuidResult)]) -> bool {
        has_v3(|leaf, _| {
            let found = leaves.iter().find(|(known, _)| *known == leaf);
            found.map_or(registers(u32::MAX, u32::MAX, u32::MAX), |(_, found)| *found)
        })
    }

    #[test]
    fn each_instruction_set_of_v3_is_needed() {
        assert!(is_complete(&COMPLETE));
        for (leaf, bits) in [(1, 0x3840_1000_u32), (7, 0x128), (0x8000_0001, 0x20)] {
            for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
                let mut leaves = COMPLETE;
                let (_, found) = leaves.iter_mut().find(|(known, _)| *known == leaf).unwrap();
                found.ebx &= !(1 << bit);
                found.ecx &= !(1 << bit);
                assert!(!is_complete(&leaves), "bit {bit} of leaf {leaf:#x}");
            }
        }
    }

    #[test]
    fn leaf_that_does_not_exist_is_not_asked() {
        for (leaf, last) in [(0, 6), (0x8000_0000, 0x8000_0000)] {
            let mut leaves = COMPLETE;
            let (_, found) = leaves.iter_mut().find(|(known, _)| *known == leaf).unwrap();
            found.eax = last;
            assert!(!is_complete(&leaves), "leaf {leaf:#x}");
        }
    }

    #[test]
    fn cpuid_agrees_with_std() {
        let std = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe");
        assert_eq!(has_v3(__cpuid_count), std);
    }
}
