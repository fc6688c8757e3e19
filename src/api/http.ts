/**
 * `farbus/http`: objects on web servers as read-only disks, by fetch(): in browsers, workers and
 * Node. `farbus/node` reads them on Node with proxies, certificates of one's own and S3's settings
 * (`openSource('https://…')`).
 *
 * @example An image on a web server, with merging and read-ahead
 * ```ts
 * import { MergeFilter, ReadAheadFilter } from 'farbus';
 * import { openHttp } from 'farbus/http';
 *
 * const disk = new ReadAheadFilter(new MergeFilter(await openHttp('https://images.example.org/a.img')));
 * const sector = new Uint8Array(512);
 * await disk.read(0, sector);
 * ```
 * @module farbus/http
 */
export { openHttp } from '../storage/http/open-fetch.js';
export type { FetchHttpOptions } from '../storage/http/open-fetch.js';
export type { Authorize, OpenHttpOptions } from '../storage/http/open.js';
