/**
 * Runs commands by the shell that is at a guest's serial console, each in a shell of its own: "exit" or an unbalanced
 * quote ends that one only. The guest needs a POSIX shell with printf, and stty for output that is not changed.
 *
 * The command is put into a variable of the console's shell in short pieces, as interactive shells bound the length of a
 * line (BusyBox: 1,024 characters), and each piece is answered before the next is sent, as terminals bound what waits.
 * What arrives is told apart by marks with a number that only this command has. The typed lines are echoed; quotes in them
 * keep the echo from looking like a mark.
 */
import { onAbort } from '../base/abort.js';

/** The console's shell has gone on without the command's end: its process was killed, or the console has a new shell. */
export class GuestShellEnded extends Error {
  override readonly name = 'GuestShellEnded';

  constructor() {
    super("the guest's shell ended before the command did");
  }
}

/** What a console gives: its bytes both ways. */
export interface ShellPort {
  /** Resolves when the guest has taken the text. */
  send(text: string): Promise<void>;
  /** Gives what arrives from now on to `receive`; the function that is returned ends it. */
  listen(receive: (bytes: Uint8Array) => void): () => void;
}

export interface ShellOptions {
  /** Gets the command's output, both streams, as it comes. */
  readonly onOutput: (bytes: Uint8Array) => void;
  /** What the command reads. Default: nothing; it reads the end at once. */
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  /** Gives the command up: the promise rejects with the signal's reason. The command itself runs on. */
  readonly signal?: AbortSignal | undefined;
}

/** Characters of a piece of the command, and of input: within what a line may have in an interactive shell, and in a terminal. */
const pieceLength = 400;
const inputLength = 3500;
/** How long the console's shell has to answer before it is asked again, in ms: it may not be there yet. */
const askEvery = 2000;
/** How long no input comes before it is looked whether the console's shell waits for it, in ms. */
const lookEvery = 2000;

export class GuestShell {
  readonly #port: ShellPort;
  /** Commands of several users of a console run one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(port: ShellPort) {
    this.#port = port;
  }

  /**
   * Runs `command`, which has to be free of NUL characters.
   * @returns its exit status. @throws GuestShellEnded; the signal's reason.
   */
  execute(command: string, options: ShellOptions): Promise<number> {
    const run = this.#last.then(async () => {
      options.signal?.throwIfAborted();
      const execution = new Execution(this.#port, options);
      try {
        return await execution.run(command);
      } finally {
        execution.close();
      }
    });
    this.#last = run.catch(() => undefined);
    return run;
  }
}

interface Mark {
  readonly kind: string;
  readonly value: number;
}

/** One command. */
class Execution {
  readonly #port: ShellPort;
  readonly #options: ShellOptions;
  readonly #id: string;
  readonly #reader: MarkReader;
  readonly #stop: () => void;
  readonly #unwatch: () => void;
  readonly #marks: Mark[] = [];
  #wake: () => void = () => undefined;

  constructor(port: ShellPort, options: ShellOptions) {
    this.#port = port;
    this.#options = options;
    this.#id = [...crypto.getRandomValues(new Uint8Array(6))]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('');
    this.#reader = new MarkReader(`farbus-${this.#id}-`, options.onOutput, (mark) => {
      this.#marks.push(mark);
      this.#wake();
    });
    this.#stop = port.listen((bytes) => this.#reader.add(bytes));
    this.#unwatch = onAbort(options.signal, () => this.#wake());
  }

  close(): void {
    this.#stop();
    this.#unwatch();
  }

  async run(command: string): Promise<number> {
    await this.#ask();
    const pieces = [...quotedPieces(new TextEncoder().encode(command))];
    const last = pieces.pop() ?? '_f=';
    await this.#type('_f=', 'put');
    for (const piece of pieces) await this.#type(piece, 'put');
    return this.#options.input ? this.#withInput(last, this.#options.input) : this.#withoutInput(last);
  }

  /** Until the console's shell answers. From then on the terminal neither echoes nor changes what is printed. */
  async #ask(): Promise<void> {
    for (;;) {
      await this.#send(`stty -echo -opost 2>/dev/null;${this.#print('ready')}`);
      if (await this.#next(askEvery)) return;
    }
  }

  async #withoutInput(last: string): Promise<number> {
    await this.#send(`${last};${this.#print('begin')};sh -c "$_f" </dev/null;${this.#print('end:$?')}`);
    await this.#until('begin');
    return this.#end();
  }

  /**
   * Waits for the command's end. A line is typed ahead, to which the console's shell comes when the command is over,
   * whatever has become of that. It is typed again and again, ever more seldom: a terminal forgets what is typed when its
   * first shell is killed.
   */
  async #end(): Promise<number> {
    for (let withinMs = lookEvery; ; withinMs *= 2) {
      await this.#send(this.#print('over'));
      const mark = await this.#next(withinMs);
      if (mark?.kind === 'end') return mark.value;
      if (mark?.kind === 'over') throw new GuestShellEnded();
    }
  }

  /**
   * A loop in the console's shell reads lines of input from the terminal, gives them to the command and answers each.
   * It cannot be typed ahead while the loop reads.
   */
  async #withInput(last: string, input: AsyncIterable<Uint8Array>): Promise<number> {
    const loop =
      // One call of read(2) gives a line of a terminal; the shell's own read makes two calls for each character.
      'while _l=$(dd bs=4096 count=1 2>/dev/null);do case $_l in ' +
      `+*)printf %b "\${_l#+}"&&${this.#print('taken')} >&3||break;;` +
      ':*);;*)break;;esac;done';
    const run = `sh -c "$_f" 3>&-;${this.#print('end:$?')} >&3`;
    await this.#type(last, 'put');
    await this.#send(`${this.#print('begin')};{ ${loop}|{ ${run};};} 3>&1`);
    await this.#until('begin');
    const chunks = input[Symbol.asyncIterator]();
    const ended = await this.#feed(chunks);
    if (ended === undefined) {
      await this.#send('.');
      return this.#end();
    }
    // What the command has not read is not waited for.
    void chunks.return?.().catch(() => undefined);
    void this.#port.send('.\n');
    return ended;
  }

  /** Sends the input. @returns the command's status where it ends before. */
  async #feed(chunks: AsyncIterator<Uint8Array>): Promise<number | undefined> {
    for (;;) {
      let next: IteratorResult<Uint8Array> | undefined;
      void chunks.next().then(
        (result) => {
          next = result;
          this.#wake();
        },
        () => {
          next = { done: true, value: undefined };
          this.#wake();
        },
      );
      while (next === undefined) {
        const mark = await this.#next(lookEvery, () => next !== undefined);
        if (mark?.kind === 'end') return mark.value;
        if (mark?.kind === 'over') throw new GuestShellEnded();
        // A comment for the loop; for the console's shell, where the loop is gone, a command.
        if (!mark && next === undefined) await this.#send(`: ;${this.#print('over')}`);
      }
      if ((next as IteratorResult<Uint8Array>).done) return undefined;
      for (const text of escapedPieces((next as IteratorYieldResult<Uint8Array>).value, inputLength)) {
        await this.#send(`+${text}`);
        const mark = await this.#one('taken', 'end');
        if (mark.kind === 'end') return mark.value;
      }
    }
  }

  /** Types a line and waits for the mark that it then prints. */
  async #type(line: string, kind: string): Promise<void> {
    await this.#send(`${line};${this.#print(kind)}`);
    await this.#until(kind);
  }

  /** The command that prints a mark. */
  #print(text: string): string {
    return `echo far''bus-${this.#id}-${text}`;
  }

  async #send(line: string): Promise<void> {
    const taken = this.#port.send(`${line}\n`);
    let done = false;
    void taken.then(() => {
      done = true;
      this.#wake();
    });
    while (!done) await this.#changed();
  }

  /** The value of the next mark of a kind. */
  async #until(kind: string): Promise<number> {
    return (await this.#one(kind)).value;
  }

  async #one(...kinds: readonly string[]): Promise<Mark> {
    for (;;) {
      const mark = (await this.#next())!;
      if (kinds.includes(mark.kind)) return mark;
      if (mark.kind === 'over') throw new GuestShellEnded();
    }
  }

  /** The next mark; undefined where none has come within a time, or `ready`. */
  async #next(withinMs?: number, ready?: () => boolean): Promise<Mark | undefined> {
    let late = false;
    const timer =
      withinMs === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            this.#wake();
          }, withinMs);
    try {
      while (this.#marks.length === 0 && !late && !ready?.()) await this.#changed();
      return this.#marks.shift();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Something has happened. @throws the signal's reason */
  async #changed(): Promise<void> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    await new Promise<void>((resolve) => (this.#wake = resolve));
    signal?.throwIfAborted();
  }
}

/** Tells marks from output. */
class MarkReader {
  readonly #prefix: string;
  readonly #onOutput: (bytes: Uint8Array) => void;
  readonly #onMark: (mark: Mark) => void;
  /** Bytes as characters of the same number. */
  #pending = '';
  /** What comes before is the echo of what was typed. */
  #begun = false;
  /** The terminal puts a carriage return before each line feed: the guest has no stty. */
  #translated = false;

  constructor(prefix: string, onOutput: (bytes: Uint8Array) => void, onMark: (mark: Mark) => void) {
    this.#prefix = prefix;
    this.#onOutput = onOutput;
    this.#onMark = onMark;
  }

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 4096) {
      this.#pending += String.fromCharCode(...bytes.subarray(at, at + 4096));
    }
    for (;;) {
      const start = this.#pending.indexOf(this.#prefix);
      if (start < 0) {
        const held = this.#translated && this.#pending.endsWith('\r') ? 1 : heldBack(this.#pending, this.#prefix);
        return this.#output(this.#pending.length - held);
      }
      this.#output(start);
      const mark = /^([a-z]+)(?::(\d+))?(\r?)\n/.exec(this.#pending.slice(this.#prefix.length));
      if (!mark) {
        // The rest of the line has not come; what is no mark after all is output.
        if (this.#pending.length - this.#prefix.length < 20) return;
        this.#output(this.#prefix.length);
        continue;
      }
      this.#pending = this.#pending.slice(this.#prefix.length + mark[0].length);
      this.#translated = mark[3] !== '';
      if (mark[1] === 'begin') this.#begun = true;
      if (mark[1] === 'end') this.#begun = false;
      this.#onMark({ kind: mark[1]!, value: Number(mark[2] ?? 0) });
    }
  }

  #output(length: number): void {
    const text = this.#pending.slice(0, length);
    this.#pending = this.#pending.slice(length);
    if (!this.#begun || length === 0) return;
    const printed = this.#translated ? text.replaceAll('\r\n', '\n') : text;
    this.#onOutput(Uint8Array.from(printed, (char) => char.charCodeAt(0)));
  }
}

/** How many characters at the end of a text may be the beginning of a prefix. */
function heldBack(text: string, prefix: string): number {
  let length = Math.min(text.length, prefix.length - 1);
  while (length > 0 && !prefix.startsWith(text.slice(-length))) length--;
  return length;
}

/** Commands that add bytes to the variable _f, which the last one completes. */
function* quotedPieces(bytes: Uint8Array): Iterable<string> {
  for (const text of escapedPieces(bytes, pieceLength)) {
    // "$( )" takes line feeds from the end: hence the full stop, which is taken off again.
    if (text.includes('\\')) yield `_f=$(printf '%s%b.' "$_f" '${text}');_f=\${_f%.}`;
    else yield `_f=$_f'${text}'`;
  }
}

/** Bytes as arguments for printf's %b, in single quotes, each of at most `length` characters that a terminal leaves as they are. */
function* escapedPieces(bytes: Uint8Array, length: number): Iterable<string> {
  let text = '';
  for (const byte of bytes) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c;
    const next = plain ? String.fromCharCode(byte) : `\\0${byte.toString(8).padStart(3, '0')}`;
    if (text.length + next.length > length) {
      yield text;
      text = '';
    }
    text += next;
  }
  if (text !== '') yield text;
}
