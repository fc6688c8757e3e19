/**
 * The worker that lends a disk of this browser (OPFS), because only workers can write such files in
 * place. It answers the calls of lendOpfsDisk (disk.ts) and tells it of events.
 */
import { Messages, type MessageEnd } from '../../browser/messages.js';
import { FarbusError } from '../../base/errors.js';
import { openOpfsDisk } from '../../storage/opfs/disk.js';
import { lend, type Lending } from './lend.js';

/** The call `start` of the page. */
export interface DiskToLend {
  /** The name of the disk in this browser. */
  readonly disk: string;
  readonly server: string;
  /** The name of the export. */
  readonly name: string;
  readonly token: string | undefined;
}

let lending: Lending | undefined;

/** The methods that the page calls. */
const methods = {
  start: async ({ disk, ...options }: DiskToLend): Promise<void> => {
    if (lending) throw new FarbusError('this worker lends a disk already');
    const device = await openOpfsDisk(disk);
    try {
      lending = lend(device, {
        ...options,
        onState: (state, detail) => messages.tell('state', { state, detail }),
        onUse: (use) => messages.tell('use', use),
      });
    } catch (error) {
      await device.close();
      throw error;
    }
  },
  stop: (): Promise<void> | undefined => lending?.stop(),
};

const messages: Messages = new Messages(
  globalThis as unknown as MessageEnd,
  (method, args) => {
    const found = (methods as Record<string, ((...args: never[]) => unknown) | undefined>)[method];
    if (!found) throw new FarbusError(`this worker has no method ${method}`);
    return found(...(args as never[]));
  },
  () => undefined,
);
