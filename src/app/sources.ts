/** Opens parsed sources as BlockDevices, with their filters. */
import { untilAbort } from '../base/abort.js';
import { usageError } from '../base/errors.js';
import { withoutSecrets } from '../base/web-address.js';
import type { BlockDevice } from '../block/device.js';
import { ExchangeableDrive } from '../block/exchangeable-drive.js';
import { tailOf, tailWarning } from '../block/tail.js';
import { ReadOnlyFilter } from '../block/filters/read-only.js';
import type { ClientDrive } from '../computer/drives.js';
import { beginLife } from '../storage/lives.node.js';
import { openPath } from '../storage/open.node.js';
import { pathIdentity } from '../storage/opening.node.js';
import { checked, openFiltered, type Filters } from './filters.js';
import { formatToOpen } from './source-format.js';
import { withSourceHint } from './source-hint.js';
import type { KindOptions, SourceKind } from './source-kinds.js';
import type { Place, Source } from './source-text.js';

/** Options for opening a source. */
export interface SourceOptions extends Omit<KindOptions, 'life' | 'assumeSame'> {
  /**
   * Open as a writer does, but make and change no file, not even a time: for a dry run, and for a
   * look at a disk. The caller writes nothing and gives `looksOnly` as well. Abilities that only a
   * change would reveal are reported as absent.
   */
  readonly dryRun?: boolean;
  /** Filters of the command. Those in the source's own text take precedence. */
  readonly filters?: Filters;
  /** Apply the filters that a server applies to each connection, such as a rate. Default true. */
  readonly limit?: boolean;
  /**
   * The caller refuses a device whose last bytes are not addressable (block/tail.ts). Otherwise a
   * warning is logged.
   */
  readonly whole?: boolean;
}

/**
 * Opens a source with its filters.
 * @throws FarbusError if it cannot be opened, or if it is a drive of a computer
 */
export async function openSource(source: Source, options: SourceOptions): Promise<BlockDevice> {
  if (source.bus || source.kind !== 'disk' || hasNames(source)) {
    throw usageError(
      `${source.text}: bus=, serial=, model=, cdrom and removable are about drives of farbus run --drive`,
    );
  }
  return open(source, options);
}

/**
 * Opens an export of a server: like {@link openSource}, and with `,removable` a drive whose medium
 * can be exchanged while it is served.
 */
export async function openExport(source: Source, options: SourceOptions): Promise<BlockDevice> {
  if (source.kind !== 'removable' || source.bus || hasNames(source)) return openSource(source, options);
  const medium = source.place.kind === 'none' ? undefined : await open(source, options);
  const readOnly = source.filters['read-only'] ?? options.readOnly ?? false;
  return new ExchangeableDrive({ identity: '', readOnly, rotational: false, blockSize: 512 }, medium);
}

/**
 * Opens a drive of a computer: like {@link openSource}, with [,bus=nvme|ahci|ide] [,serial=TEXT]
 * [,model=TEXT] [,cdrom|,removable]. Without a source the drive is empty.
 */
export async function openClientDrive(source: Source, options: SourceOptions): Promise<ClientDrive> {
  const { bus, kind, serial, model, filters } = source;
  const device = source.place.kind === 'none' ? undefined : await open(source, options);
  return { device, kind, serial, model, assumeSame: filters['assume-same'], ...(bus && { bus }) };
}

function hasNames({ serial, model }: Source): boolean {
  return serial !== undefined || model !== undefined;
}

async function open({ location, place, filters: own }: Source, options: SourceOptions): Promise<BlockDevice> {
  const filters = checked({ ...options.filters, ...own });
  const readOnly = filters['read-only'] === true || options.readOnly === true;
  const device = await openFiltered(
    (never) =>
      openPlace(location, place, filters, { ...options, readOnly: never || readOnly }).catch((error: unknown) => {
        options.signal?.throwIfAborted();
        throw withSourceHint(location, error);
      }),
    filters,
    options,
  );
  // An overlay could be written although its source is read-only.
  const result = options.readOnly && !device.info.readOnly ? new ReadOnlyFilter(device) : device;
  if (!options.whole && tailOf(device.info) > 0) options.log.log('warn', tailWarning(location, device.info)!);
  return result;
}

async function openPlace(
  location: string,
  place: Place,
  filters: Filters,
  options: SourceOptions,
): Promise<BlockDevice> {
  switch (place.kind) {
    case 'none':
      throw usageError('a drive without a source has to be a cdrom or removable');
    case 'local':
      return openLocal(place.path, place.format ?? filters.format, filters['may-open'] ?? [], options);
    case 'other':
      if (filters.format !== undefined && filters.format !== 'raw') {
        throw usageError(
          `${location}: images are read from files of this computer only; attach it there, or give format raw`,
        );
      }
      return openKind(place.source, location, { ...options, assumeSame: filters['assume-same'] });
  }
}

/** Opens a source of another kind. A writer is fenced against processes that wrote it before. */
async function openKind(
  kind: SourceKind,
  location: string,
  options: SourceOptions & KindOptions,
): Promise<BlockDevice> {
  if (!kind.fenced || options.readOnly || options.looksOnly) return kind.open(location, options);
  // The life's file names the source. A token is a secret, and another one is for the same disk.
  const life = await untilAbort(options.signal, beginLife(withoutSecrets(location), options.log), (late) =>
    late.close(true),
  );
  try {
    return await kind.open(location, { ...options, life });
  } catch (error) {
    // Nothing was written.
    await life.close(true);
    throw error;
  }
}

/** Opens a local path: its bytes, or the disk in an image. */
async function openLocal(
  path: string,
  given: Filters['format'],
  mayOpen: readonly string[],
  { readOnly = false, signal, log, dryRun }: SourceOptions,
): Promise<BlockDevice> {
  const format = given ?? (await untilAbort(signal, formatToOpen(path, log)));
  // Lock the file: a second farbus must not write it at the same time.
  if (format === 'raw') return openPath(path, { signal, dryRun, ...(readOnly ? { readOnly } : { exclusive: true }) });
  const identity = await untilAbort(
    signal,
    pathIdentity(path).catch(() => ''),
  );
  const { openImage } = await import('../protocol/qemu/open.node.js');
  return openImage(path, { format, readOnly, mayOpen, identity, signal, log, dryRun });
}
