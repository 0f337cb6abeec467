// @parse/node-apn: one provider with one connection, which takes an array of recipients. The same arguments and the same
// line of JSON as the Python peers (measure.py). The library comes by NODE_PATH.
'use strict';

const fs = require('fs');
const { parseArgs } = require('util');
const apn = require('@parse/node-apn');

// Recipients of one call, which are all in flight at once. With 50 to 200 it is fastest against a provider that answers at
// once, one provider as fast as a MultiProvider; 1,000 cost it a third of its rate.
const AT_ONCE = 200;

function read() {
  const names = ['url', 'ca-file', 'secret', 'message', 'addresses', 'count', 'warm-up'];
  const options = Object.fromEntries(names.map(name => [name, { type: 'string' }]));
  return parseArgs({ options }).values;
}

async function send(provider, note, addresses) {
  let accepted = 0;
  for (let start = 0; start < addresses.length; start += AT_ONCE) {
    accepted += (await provider.send(note, addresses.slice(start, start + AT_ONCE))).sent.length;
  }
  return accepted;
}

async function main() {
  const task = read();
  const secret = JSON.parse(fs.readFileSync(task.secret, 'utf8'));
  const message = JSON.parse(task.message);
  const addresses = fs.readFileSync(task.addresses, 'utf8').split('\n').filter(Boolean).slice(0, Number(task.count));
  const where = new URL(task.url);
  const provider = new apn.Provider({
    token: { key: secret.private_key, keyId: secret.key_id, teamId: secret.team_id },
    address: where.hostname,
    port: Number(where.port),
    ca: [fs.readFileSync(task['ca-file'])],
  });
  const note = new apn.Notification({
    topic: secret.bundle_id,
    pushType: 'alert',
    alert: { title: message.title, body: message.body },
    payload: message.data,
  });

  let accepted = await send(provider, note, addresses.slice(0, Number(task['warm-up'])));
  const began = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  accepted += await send(provider, note, addresses);
  const used = process.cpuUsage(cpu);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ accepted, seconds, cpu_us: (used.user + used.system) / addresses.length }));
  await provider.shutdown();
}

main();
