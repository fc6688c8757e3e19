/** The `farbus` command: finds the subcommand and turns errors into one line and an exit status. */

/** Runs the command line; resolves with the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  process.stderr.write(`farbus: unknown command ${JSON.stringify(args[0] ?? '')}\n`);
  return 2;
}
