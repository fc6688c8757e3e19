/**
 * "Programming Interface for Bus Master IDE Controller" 1.0 ([BMI]): the numbers that a drive of
 * the engine's IDE controller needs.
 */

/** [BMI] 2.1 command register and 2.2 status register. */
export const BusMaster = { start: 1, active: 1, error: 2 } as const;

/**
 * [BMI] 1.2: a physical region descriptor has 8 bytes. Bit 0 of address and count is reserved; a
 * count of 0 means 64 KiB; the last descriptor of a table has the bit `last` in its last byte.
 */
export const RegionDescriptor = { size: 8, address: 0, count: 4, flags: 7, last: 0x80, largest: 0x10000 } as const;
