/**
 * Runs commands through the shell at a guest's serial console. Each command runs in a shell of its
 * own, so that "exit" or an unbalanced quote ends only that shell. The guest needs a POSIX shell
 * with printf, and stty if the output must not be changed.
 *
 * The command is put into a variable of the console's shell in short pieces, because interactive
 * shells limit the length of a line (BusyBox: 1024 characters). Each piece is acknowledged before
 * the next is sent, because terminals limit the input that waits.
 *
 * Markers with a number unique to the command separate its output from everything else. The typed
 * lines are echoed; quotes in them keep the echo from looking like a marker.
 */
import { hexOf } from '../base/hex.js';
import { onAbort } from '../base/abort.js';

/**
 * The console's shell went on, but the command did not report its end: its process was killed, or
 * the console has a new shell.
 */
export class GuestShellEnded extends Error {
  /** The name of the class. */
  override readonly name = 'GuestShellEnded';

  constructor() {
    super("the guest's shell ended before the command did");
  }
}

/** The two directions of a console. */
export interface ShellPort {
  /** Resolves when the guest has taken the text. */
  send(text: string): Promise<void>;
  /**
   * Passes everything that arrives from now on to `receive`. Returns a function that stops this.
   */
  listen(receive: (bytes: Uint8Array) => void): () => void;
}

/** Options of a command in the guest's shell. */
export interface ShellOptions {
  /** Takes the command's output as it arrives, stdout and stderr together. */
  readonly onOutput: (bytes: Uint8Array) => void;
  /** The command's standard input. Default: empty, so the command reads end-of-file immediately. */
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  /** Called when the shell has answered for the first time, before the command begins. */
  readonly onReady?: (() => void) | undefined;
  /**
   * If true, the terminal has its settings back at the end, for people who type there afterwards.
   * Default false.
   */
  readonly restores?: boolean | undefined;
  /** Gives up waiting: the promise rejects with the signal's reason. The command itself goes on. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Characters in a piece of the command, within the line limit of an interactive shell; and in a
 * piece of input, within that of a terminal.
 */
const pieceLength = 400;
const inputLength = 3500;
/** Time in ms after which the console's shell is asked again, because it may not be running yet. */
const askEvery = 2000;
/**
 * Time in ms without input after which a check is made whether the console's shell waits for a
 * command, which means that the input loop has ended.
 */
const lookEvery = 2000;

export class GuestShell {
  readonly #port: ShellPort;
  /** Settles after the last command so far: commands of several users run one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(port: ShellPort) {
    this.#port = port;
  }

  /**
   * Runs `command`, which must not contain NUL characters.
   * @returns its exit status
   * @throws GuestShellEnded, or the signal's reason
   */
  execute(command: string, options: ShellOptions): Promise<number> {
    const run = this.#last.then(async () => {
      options.signal?.throwIfAborted();
      const execution = new Execution(this.#port, options);
      try {
        return await execution.run(command);
      } finally {
        execution.close();
        // After close: the settings come back even if the signal has aborted.
        if (options.restores) void this.#port.send(`${restoreLine}\n`);
      }
    });
    this.#last = run.catch(() => undefined);
    return run;
  }
}

/** Shell commands: keep the terminal's settings, unless an earlier command has; set them again. */
const keepLine = '_t=${_t:-$(stty -g 2>/dev/null)};';
const restoreLine = '[ -n "$_t" ] && stty "$_t";unset _t _f';

interface Marker {
  readonly kind: string;
  readonly value: number;
}

/** One command. */
class Execution {
  readonly #port: ShellPort;
  readonly #options: ShellOptions;
  readonly #id: string;
  readonly #reader: MarkerReader;
  readonly #stop: () => void;
  readonly #unwatch: () => void;
  readonly #markers: Marker[] = [];
  #wake: () => void = () => undefined;

  constructor(port: ShellPort, options: ShellOptions) {
    this.#port = port;
    this.#options = options;
    this.#id = hexOf(crypto.getRandomValues(new Uint8Array(6)));
    this.#reader = new MarkerReader(`farbus-${this.#id}-`, options.onOutput, (marker) => {
      this.#markers.push(marker);
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

  /**
   * Asks until the console's shell answers. From then on the terminal neither echoes input nor
   * changes output.
   */
  async #ask(): Promise<void> {
    const keep = this.#options.restores ? keepLine : '';
    for (;;) {
      await this.#send(`${keep}stty -echo -opost 2>/dev/null;${this.#print('ready')}`);
      if (await this.#next(askEvery)) break;
    }
    this.#options.onReady?.();
  }

  async #withoutInput(last: string): Promise<number> {
    await this.#send(`${last};${this.#print('begin')};sh -c "$_f" </dev/null;${this.#print('end:$?')}`);
    await this.#until('begin');
    return this.#end();
  }

  /**
   * Waits for the command's end. It also types a line ahead, which the console's shell executes
   * once the command is over, even if the command was killed. The line is typed repeatedly, at
   * doubling intervals, because a terminal discards pending input when its first shell is killed.
   */
  async #end(): Promise<number> {
    for (let withinMs = lookEvery; ; withinMs *= 2) {
      await this.#send(this.#print('over'));
      const marker = await this.#next(withinMs);
      if (marker?.kind === 'end') return marker.value;
      if (marker?.kind === 'over') throw new GuestShellEnded();
    }
  }

  /**
   * Runs the command with input. A loop in the console's shell reads lines from the terminal,
   * passes them to the command and acknowledges each. While the loop reads, nothing can be typed
   * ahead.
   */
  async #withInput(last: string, input: AsyncIterable<Uint8Array>): Promise<number> {
    const loop =
      // dd reads a line of the terminal with one read(2). The shell's own `read` makes two system
      // calls for each character.
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
    // The command ended before it had read all input: do not wait for the rest.
    void chunks.return?.().catch(() => undefined);
    void this.#port.send('.\n');
    return ended;
  }

  /**
   * Sends the input.
   * @returns the command's exit status if it ends before the input does
   */
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
        const marker = await this.#next(lookEvery, () => next !== undefined);
        if (marker?.kind === 'end') return marker.value;
        if (marker?.kind === 'over') throw new GuestShellEnded();
        // The loop ignores this line as a comment. If the loop has ended, the console's shell
        // executes it.
        if (!marker && next === undefined) await this.#send(`: ;${this.#print('over')}`);
      }
      if ((next as IteratorResult<Uint8Array>).done) return undefined;
      for (const text of escapedPieces((next as IteratorYieldResult<Uint8Array>).value, inputLength)) {
        await this.#send(`+${text}`);
        const marker = await this.#one('taken', 'end');
        if (marker.kind === 'end') return marker.value;
      }
    }
  }

  /** Types a line, and waits for the marker that the line prints. */
  async #type(line: string, kind: string): Promise<void> {
    await this.#send(`${line};${this.#print(kind)}`);
    await this.#until(kind);
  }

  /**
   * The shell command that prints a marker. The quotes keep its echo from looking like the marker.
   */
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

  /** Waits for the next marker of a kind. Returns its value. */
  async #until(kind: string): Promise<number> {
    return (await this.#one(kind)).value;
  }

  async #one(...kinds: readonly string[]): Promise<Marker> {
    for (;;) {
      const marker = (await this.#next())!;
      if (kinds.includes(marker.kind)) return marker;
      if (marker.kind === 'over') throw new GuestShellEnded();
    }
  }

  /**
   * The next marker. Undefined if none arrives within `withinMs`, or before `ready` returns true.
   */
  async #next(withinMs?: number, ready?: () => boolean): Promise<Marker | undefined> {
    let late = false;
    const timer =
      withinMs === undefined
        ? undefined
        : setTimeout(() => {
            late = true;
            this.#wake();
          }, withinMs);
    try {
      while (this.#markers.length === 0 && !late && !ready?.()) await this.#changed();
      return this.#markers.shift();
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Resolves when something has happened that a wait may depend on.
   * @throws the signal's reason
   */
  async #changed(): Promise<void> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    await new Promise<void>((resolve) => (this.#wake = resolve));
    signal?.throwIfAborted();
  }
}

/** Separates markers from output. */
class MarkerReader {
  readonly #prefix: string;
  readonly #onOutput: (bytes: Uint8Array) => void;
  readonly #onMarkerer: (marker: Marker) => void;
  /** Bytes that were not processed yet, one character for each byte. */
  #pending = '';
  /**
   * False while only the echo of typed lines arrives; true between the markers `begin` and `end`.
   */
  #begun = false;
  /** The terminal puts a carriage return before each line feed, because the guest has no stty. */
  #translated = false;

  constructor(prefix: string, onOutput: (bytes: Uint8Array) => void, onMarker: (marker: Marker) => void) {
    this.#prefix = prefix;
    this.#onOutput = onOutput;
    this.#onMarkerer = onMarker;
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
      const marker = /^([a-z]+)(?::(\d+))?(\r?)\n/.exec(this.#pending.slice(this.#prefix.length));
      if (!marker) {
        // Wait for the rest of the line. If it cannot be a marker, it is output.
        if (this.#pending.length - this.#prefix.length < 20) return;
        this.#output(this.#prefix.length);
        continue;
      }
      this.#pending = this.#pending.slice(this.#prefix.length + marker[0].length);
      this.#translated = marker[3] !== '';
      if (marker[1] === 'begin') this.#begun = true;
      if (marker[1] === 'end') this.#begun = false;
      this.#onMarkerer({ kind: marker[1]!, value: Number(marker[2] ?? 0) });
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

/** Number of characters at the end of `text` that may be the beginning of `prefix`. */
function heldBack(text: string, prefix: string): number {
  let length = Math.min(text.length, prefix.length - 1);
  while (length > 0 && !prefix.startsWith(text.slice(-length))) length--;
  return length;
}

/** Shell commands that append the bytes to the variable `_f`. */
function* quotedPieces(bytes: Uint8Array): Iterable<string> {
  for (const text of escapedPieces(bytes, pieceLength)) {
    // "$( )" removes trailing line feeds, so a full stop is added and removed again.
    if (text.includes('\\')) yield `_f=$(printf '%s%b.' "$_f" '${text}');_f=\${_f%.}`;
    else yield `_f=$_f'${text}'`;
  }
}

/**
 * The bytes as arguments for printf's %b, for use in single quotes. Each has at most `length`
 * characters, none of which a terminal interprets.
 */
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
