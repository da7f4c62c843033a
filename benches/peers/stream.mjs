// Node.js as one would write it: `stream.mjs LOG OUT` writes the transactions of a legacy log as JSON lines.

import { createReadStream, createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { isStatic } from './rules.mjs';

const [log, out] = process.argv.slice(2);

async function* transactions(lines) {
  let index;
  for await (const line of lines) {
    if (line.startsWith('#')) {
      const names = line.startsWith('#Fields: ') ? line.slice(9).split(' ') : [];
      if (names.length) index = Object.fromEntries(names.map((name, at) => [name, at]));
      continue;
    }
    const cells = line.split('\t');
    const get = (name) => cells[index[name]];
    if (isStatic(get('cs-method'), get('cs-uri-stem'))) continue;
    const query = get('cs-uri-query');
    const target = get('cs-uri-stem') + (query === '-' ? '' : `?${query}`);
    yield `${JSON.stringify({
      id: get('x-edge-request-id'),
      started: Date.parse(`${get('date')}T${get('time')}Z`) - Math.round(get('time-taken') * 1000),
      ip: get('c-ip'),
      port: Number(get('c-port')),
      method: get('cs-method'),
      scheme: get('cs-protocol'),
      version: get('cs-protocol-version'),
      host: get('x-host-header'),
      target: target.replaceAll('%25', '%'),
      referer: decodeURIComponent(get('cs(Referer)')),
      agent: decodeURIComponent(get('cs(User-Agent)')),
      forwarded: get('x-forwarded-for'),
      status: get('sc-status'),
      type: decodeURIComponent(get('sc-content-type')),
      length: get('sc-content-len'),
    })}\n`;
  }
}

const lines = createInterface({ input: createReadStream(log).pipe(createGunzip()), crlfDelay: Infinity });
await pipeline(Readable.from(transactions(lines)), createWriteStream(out));
