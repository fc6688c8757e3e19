/**
 * The tests of the NVMe controller and of the AHCI adapter. Import this file after the choice of a
 * board and a memory (driver-board.ts, guest-memory.ts), on which they then run.
 */
await import('../unit/nvme-controller.test.js');
await import('../unit/nvme-direct.test.js');
await import('../unit/nvme-growth.test.js');
await import('../unit/nvme-shadow.test.js');
await import('../unit/ahci-at-once.test.js');
await import('../unit/ahci-controller.test.js');
await import('../unit/ahci-disk.test.js');
await import('../unit/ahci-packet.test.js');
