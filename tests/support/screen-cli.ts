/** Runs farbus commands in this process, with a private control folder. */
import { main } from '../../src/cli/main.js';
import type { CliIo } from '../../src/cli/ui/io.js';

/** Runs `farbus ARGS`. Resolves with its exit status and its output. */
export async function farbusHere(
  args: readonly string[],
  runtimeFolder: string,
): Promise<{ status: number; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  const sink = (take: (text: string) => void) =>
    ({ write: (chunk: string | Uint8Array) => (take(Buffer.from(chunk as string).toString()), true) }) as never;
  const io: CliIo = {
    stdin: process.stdin,
    stdout: sink((text) => (stdout += text)),
    stderr: sink((text) => (stderr += text)),
    env: { ...process.env, XDG_RUNTIME_DIR: runtimeFolder },
  };
  const status = await main(args, io);
  return { status, stdout, stderr };
}
