// npm's cloudfront-log-parser: `parser.mjs LOG OUT` writes the transactions of a legacy log as JSON lines.
// It decodes a query's `%2520` twice, to a space: that is put back for the comparison.

import { createReadStream, createWriteStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import CloudFrontParser from 'cloudfront-log-parser';
import { isStatic } from './rules.mjs';

const [log, out] = process.argv.slice(2);

const transactions = new Transform({
  writableObjectMode: true,
  transform(row, _, done) {
    if (isStatic(row['cs-method'], row['cs-uri-stem'])) return done();
    const query = row['cs-uri-query'];
    const target = row['cs-uri-stem'] + (query === '-' ? '' : `?${query}`);
    done(null, `${JSON.stringify({
      id: row['x-edge-request-id'],
      started: Date.parse(`${row.date}T${row.time}Z`) - Math.round(row['time-taken'] * 1000),
      ip: row['c-ip'],
      port: Number(row['c-port']),
      method: row['cs-method'],
      scheme: row['cs-protocol'],
      version: row['cs-protocol-version'],
      host: row['x-host-header'],
      target: target.replaceAll(' ', '%20'),
      referer: row['cs-referer'],
      agent: row['cs-user-agent'],
      forwarded: row['x-forwarded-for'],
      status: row['sc-status'],
      type: row['sc-content-type'],
      length: row['sc-content-len'],
    })}\n`);
  },
});

await pipeline(createReadStream(log), createGunzip(), new CloudFrontParser(), transactions, createWriteStream(out));
