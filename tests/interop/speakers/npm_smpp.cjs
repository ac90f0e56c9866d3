// npm's `smpp` as an SMSC or as an ESME, driven by JSON lines: see speaker.py.
// Usage: node npm_smpp.cjs smsc | esme PORT SYSTEM_ID PASSWORD
"use strict";
const readline = require("readline");
const smpp = require("smpp");

const tell = (event, told = {}) => process.stdout.write(JSON.stringify({ event, ...told }) + "\n");
const orders = {};

function text(pdu) {
  const body = pdu.short_message && pdu.short_message.message;
  return body && body.length ? body : (pdu.message_payload && pdu.message_payload.message) || "";
}

function described(pdu) {
  const udh = pdu.short_message && pdu.short_message.udh; // an array of elements, each with its two octets
  return {
    from: pdu.source_addr,
    to: pdu.destination_addr,
    text: text(pdu),
    udh: udh ? udh.map((one) => one.toString("hex")) : [],
    esm_class: pdu.esm_class,
    data_coding: pdu.data_coding,
    registered_delivery: pdu.registered_delivery,
    receipted: pdu.receipted_message_id || "",
    state: pdu.message_state || 0,
    sar: [pdu.sar_msg_ref_num, pdu.sar_total_segments, pdu.sar_segment_seqnum],
  };
}

// What either side says when the other asks.
function listen(session) {
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => {
    tell("unbind");
    session.send(pdu.response(), () => session.close());
  });
  session.on("close", () => tell("close"));
  session.on("error", (error) => tell("error", { text: String(error) }));
  session.on("unknown", (pdu) => tell("error", { text: `unknown command ${pdu.command_id}` }));
}

function smsc() {
  let bound;
  let count = 0;
  const server = smpp.createServer((session) => {
    listen(session);
    session.on("bind_transceiver", (pdu) => {
      tell("bind", { system_id: pdu.system_id, password: pdu.password, version: pdu.interface_version });
      bound = session;
      session.send(pdu.response({ system_id: "node" }));
    });
    session.on("submit_sm", (pdu) => {
      const id = (0xabc000 + ++count).toString(16);
      session.send(pdu.response({ message_id: id }));
      tell("submit", { id, ...described(pdu) });
    });
  });
  server.listen(0, "127.0.0.1", () => tell("listening", { port: server.address().port }));
  orders.deliver = ({ fields }) =>
    bound.deliver_sm(fields, (pdu) => tell("delivered", { status: pdu.command_status }));
  orders.enquire = () => bound.enquire_link((pdu) => tell("alive", { status: pdu.command_status }));
  orders.unbind = () =>
    bound.unbind((pdu) => {
      tell("unbound", { status: pdu.command_status });
      bound.close();
    });
}

function esme(port, system_id, password) {
  const session = smpp.connect({ host: "127.0.0.1", port: Number(port) }, () =>
    session.bind_transceiver({ system_id, password }, (pdu) => tell("bound", { status: pdu.command_status })),
  );
  listen(session);
  session.on("deliver_sm", (pdu) => {
    tell("deliver", described(pdu));
    session.send(pdu.response());
  });
  orders.submit = ({ fields, udh }) => {
    if (udh) {
      fields.short_message = { udh: Buffer.from(udh, "hex"), message: fields.short_message };
    }
    session.submit_sm(fields, (pdu) => tell("ack", { status: pdu.command_status, id: pdu.message_id || "" }));
  };
  orders.enquire = () => session.enquire_link((pdu) => tell("alive", { status: pdu.command_status }));
  orders.unbind = () =>
    session.unbind((pdu) => {
      tell("unbound", { status: pdu.command_status });
      session.close();
    });
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { do: what, ...order } = JSON.parse(line);
  orders[what](order);
});
lines.on("close", () => process.exit(0));

const [role, ...words] = process.argv.slice(2);
({ smsc, esme })[role](...words);
