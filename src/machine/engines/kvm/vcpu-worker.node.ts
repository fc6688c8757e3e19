/**
 * The thread of one virtual processor: it runs the guest (KVM_RUN) until an exit. It answers the
 * board's quick ports itself. For every other exit it wakes the main thread, which owns the
 * devices, and waits until that has handled the exit.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Exit, Request, Run } from './abi.js';
import { QuickPorts } from './board/ports.js';
import { SharedState, Word } from './board/shared-state.js';
import { uartInterrupt } from './board/uart.js';
import { answerPort, portAccesses } from './run-page.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { setInterruptInput } from './system.node.js';
import { VcpuState, type VcpuMessage, type VcpuStart } from './vcpu-state.js';

const { fd, vm, runSize, shared, board } = workerData as VcpuStart;
const state = new Int32Array(shared);
const system = machineCalls();
const page = system.map(fd, runSize);
const run = new DataView(page.buffer, page.byteOffset, page.byteLength);
const boardState = new SharedState(board);
const { words } = boardState;
const ports = new QuickPorts(boardState, (asserted) => setInterruptInput(vm, uartInterrupt, asserted));

system.armKick();
Atomics.store(state, VcpuState.thread, system.threadId());
tell('ready');
while (awaitTurn() === VcpuState.guest) {
  Atomics.store(state, VcpuState.failed, runGuest());
  Atomics.store(state, VcpuState.turn, VcpuState.main);
  tell('exit');
}
system.unmap(page);

function tell(message: VcpuMessage): void {
  parentPort!.postMessage(message);
}

/** Waits while the main thread may proceed. A wait can end early, by a late notification. */
function awaitTurn(): number {
  for (;;) {
    const turn = Atomics.load(state, VcpuState.turn);
    if (turn !== VcpuState.main) return turn;
    Atomics.wait(state, VcpuState.turn, VcpuState.main);
  }
}

/** Runs the guest until an exit that the main thread must handle. */
function runGuest(): number {
  for (;;) {
    try {
      system.control(fd, Request.run, 0);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // A processor that the guest has not started yet was woken.
      if (code === 'EAGAIN') continue;
      return code === 'EINTR' ? VcpuState.interrupted : VcpuState.broken;
    }
    if (run.getUint32(Run.exitReason, true) !== Exit.io || portAccesses(run) !== 1) return 0;
    if (!answerPort(run, ports)) return 0;
    Atomics.add(state, VcpuState.answered, 1);
    tellOfSerial();
  }
}

/** Tells the main thread once of output, and of room for input that it has. */
function tellOfSerial(): void {
  const output = words[Word.outputWritten] !== words[Word.outputRead];
  if (output && Atomics.exchange(words, Word.outputTold, 1) === 0) tell('output');
  if (words[Word.inputWaits] === 1 && ports.uart.room > 0 && Atomics.exchange(words, Word.inputWaits, 0) === 1)
    tell('room');
}
