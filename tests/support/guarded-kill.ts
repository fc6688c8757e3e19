/**
 * Runs before each test file: refuses signals to process ids 0, 1 and −1, and to what is no number.
 * kill(2) takes 0 for the caller's own process group and −1 for every process. A test that reads a
 * process id from a file that is still empty would otherwise kill the whole test run.
 */
const kill = process.kill.bind(process);

process.kill = (pid, signal) => {
  if (!Number.isInteger(pid) || Math.abs(pid) <= 1) throw new Error(`A test sends ${signal} to process ${pid}.`);
  return kill(pid, signal);
};
