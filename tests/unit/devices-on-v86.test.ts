/**
 * The tests of the NVMe controller and of the AHCI adapter once more, behind the v86 engine's exits
 * and the trap, on its memory, which moves.
 */
import { useBoard } from '../support/driver-board.js';
import { useMemory } from '../support/guest-memory.js';
import { V86DriverMemory, v86Board } from '../support/v86-board.js';

useMemory((size) => new V86DriverMemory(size));
useBoard(v86Board);
await import('../support/controller-tests.js');
