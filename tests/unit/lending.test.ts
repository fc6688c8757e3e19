/** The page's side of a lent disk without a server: its end when the disk does not close. */
import { expect, test } from 'vitest';
import { BlockError } from '../../src/block/errors.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { lend, type LendingClose, type LendingSocket } from '../../src/web/lend/lend.js';

/** A disk whose last writes cannot be put into their place. */
class Stuck extends MemoryDevice {
  protected override doClose(): Promise<void> {
    return Promise.reject(new BlockError('io', 'the file was changed by another program'));
  }
}

function setUp() {
  const states: [string, string][] = [];
  let ended: (event: LendingClose) => void = () => undefined;
  // A connection that is never opened.
  const socket = {
    binaryType: '',
    readyState: 0,
    addEventListener: (type: string, listener: typeof ended) => {
      if (type === 'close') ended = listener;
    },
    close: () => ended({ code: 4020, reason: '' }),
  };
  const lending = lend(new Stuck(1024), {
    server: 'http://server',
    name: 'mine',
    open: () => socket as unknown as LendingSocket,
    onState: (...state) => states.push(state),
  });
  return { lending, states, end: (event: LendingClose) => ended(event) };
}

const loss = 'and its last writes may be lost: the file was changed by another program';

test('a disk that cannot be closed is no longer lent, and the user is told', async () => {
  const { lending, states } = setUp();
  await expect(lending.stop()).rejects.toThrow('the file was changed');
  expect(states.at(-1)).toEqual(['stopped', `it is no longer lent, ${loss}`]);
});

test('a refused disk that cannot be closed is refused, and the user is told', async () => {
  const { lending, states, end } = setUp();
  end({ code: 4021, reason: 'the name is taken' });
  await expect.poll(() => lending.state, { timeout: 60_000 }).toBe('refused');
  expect(states.at(-1)).toEqual(['refused', `the name is taken, ${loss}`]);
});
