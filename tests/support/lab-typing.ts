/** Scripts for the lab of kvm-lab.ts that type on the console of a guest. */

/** A text of the console, and the line that is typed when it has appeared. */
export type Answer = readonly [appears: string, line: string];

export interface Typing {
  /** Name of files in /run: the console is kept in /run/NAME. */
  readonly name: string;
  /** Command whose console it is. It is stopped after `limitSeconds`. */
  readonly command: string;
  readonly answers: readonly Answer[];
  readonly limitSeconds: number;
  /** Commands that are run when a text has appeared. `$program` is the command. */
  readonly later?: { readonly text: string; readonly commands: string };
}

/**
 * Commands (sh) that run `command`, type the answers in turn, each when its text has appeared, and
 * print the console, the status and the seconds that it took. Each wait ends at the limit.
 */
export function typing({ name, command, answers, limitSeconds, later }: Typing): string {
  const [out, keys] = [`/run/${name}`, `/run/${name}.keys`];
  const wait = (text: string) =>
    `for i in $(seq ${limitSeconds}); do grep -aqF -- '${text}' ${out} && break; [ -e ${out}.over ] && break; sleep 1; done`;
  return [
    `echo '--- ${name}'; mkfifo ${keys}; : > ${out}; begun=$(cut -d. -f1 /proc/uptime)`,
    `(${answers.flatMap(([text, line]) => [wait(text), `printf '%s\\n' '${line}'`]).join('; ')}; while ! [ -e ${out}.over ]; do sleep 1; done) > ${keys} & typist=$!`,
    `timeout ${limitSeconds} ${command} < ${keys} > ${out} 2>&1 & program=$!`,
    ...(later === undefined ? [] : [wait(later.text), later.commands]),
    `wait $program; status=$?; : > ${out}.over; wait $typist`,
    `cat ${out}; echo; echo "status $status after $(($(cut -d. -f1 /proc/uptime) - begun)) s"`,
  ].join('\n');
}
