import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.jsmpp.bean.BindType;
import org.jsmpp.bean.DataCodings;
import org.jsmpp.bean.DeliverSm;
import org.jsmpp.bean.DeliveryReceipt;
import org.jsmpp.bean.ESMClass;
import org.jsmpp.bean.MessageRequest;
import org.jsmpp.bean.NumberingPlanIndicator;
import org.jsmpp.bean.OptionalParameter;
import org.jsmpp.bean.RegisteredDelivery;
import org.jsmpp.bean.SubmitSm;
import org.jsmpp.bean.TypeOfNumber;
import org.jsmpp.extra.NegativeResponseException;
import org.jsmpp.extra.SessionState;
import org.jsmpp.session.BindParameter;
import org.jsmpp.session.BindRequest;
import org.jsmpp.session.MessageReceiverListener;
import org.jsmpp.session.SMPPServerSession;
import org.jsmpp.session.SMPPServerSessionListener;
import org.jsmpp.session.SMPPSession;
import org.jsmpp.session.ServerMessageReceiverListener;
import org.jsmpp.session.SubmitSmResult;
import org.jsmpp.util.MessageId;

/**
 * Maven's jSMPP (org.jsmpp:jsmpp) as an ESME or as an SMSC, driven by JSON lines: see speaker.py.
 * Usage: Jsmpp esme PORT SYSTEM_ID PASSWORD | Jsmpp smsc PORT.
 */
public final class Jsmpp {
    private static final TypeOfNumber TON = TypeOfNumber.INTERNATIONAL;
    private static final NumberingPlanIndicator NPI = NumberingPlanIndicator.ISDN;
    private static final RegisteredDelivery WANTED = new RegisteredDelivery(1);
    private static final RegisteredDelivery UNWANTED = new RegisteredDelivery(0);

    private static String hex(byte[] octets) {
        StringBuilder written = new StringBuilder();
        for (byte octet : octets) written.append(String.format("%02x", octet));
        return written.toString();
    }

    private static byte[] octets(String hex) {
        byte[] read = new byte[hex.length() / 2];
        for (int at = 0; at < read.length; at++) read[at] = (byte) Integer.parseInt(hex.substring(2 * at, 2 * at + 2), 16);
        return read;
    }

    private static void told(String event, String id, MessageRequest pdu) {
        Lines.tell(event, "id", id, "from", pdu.getSourceAddr(), "to", pdu.getDestAddress(), "octets",
            hex(pdu.getShortMessage()), "coding", pdu.getDataCoding(), "udhi", pdu.isUdhi(), "wants",
            pdu.getRegisteredDelivery());
    }

    private static Object heard(DeliverSm deliver) throws Exception {
        if (deliver.isSmscDeliveryReceipt()) {
            DeliveryReceipt receipt = deliver.getShortMessageAsDeliveryReceipt();
            OptionalParameter.Receipted_message_id named =
                deliver.getOptionalParameter(OptionalParameter.Receipted_message_id.class);
            Lines.tell("receipt", "id", receipt.getId(), "stat", receipt.getFinalStatus(), "submitted",
                receipt.getSubmitted(), "delivered", receipt.getDelivered(), "error", receipt.getError(), "named",
                named == null ? "" : named.getValueAsString());
        } else {
            told("text", "", deliver);
        }
        return null;
    }

    private static void esme(int port, String name, String password) throws Exception {
        SMPPSession session = new SMPPSession();
        session.setMessageReceiverListener((MessageReceiverListener) Proxy.newProxyInstance(
            Jsmpp.class.getClassLoader(), new Class<?>[] {MessageReceiverListener.class},
            (proxy, method, given) -> method.getName().equals("onAcceptDeliverSm") ? heard((DeliverSm) given[0]) : null));
        session.addSessionStateListener((now, before, source) -> {
            if (now == SessionState.CLOSED) Lines.tell("closed");
        });
        try {
            session.connectAndBind("127.0.0.1", port, new BindParameter(BindType.BIND_TRX, name, password, "",
                TypeOfNumber.UNKNOWN, NumberingPlanIndicator.UNKNOWN, null));
            Lines.tell("bound", "status", 0);
        } catch (java.io.IOException refused) {
            boolean negative = refused.getCause() instanceof NegativeResponseException;
            int status = negative ? ((NegativeResponseException) refused.getCause()).getCommandStatus() : -1;
            Lines.tell("bound", "status", status);
        }
        while (true) {
            Map<String, String> order = Lines.next();
            if (order.get("do").equals("unbind")) {
                session.unbindAndClose();
                continue;
            }
            try {
                SubmitSmResult result = session.submitShortMessage("", TypeOfNumber.UNKNOWN, NPI, order.get("from"), TON,
                    NPI, order.get("to"), new ESMClass(Integer.parseInt(order.get("esm_class"))), (byte) 0, (byte) 0,
                    null, null, WANTED, (byte) 0, DataCodings.newInstance((byte) 8), (byte) 0,
                    octets(order.get("octets")));
                Lines.tell("ack", "id", result.getMessageId(), "status", 0);
            } catch (NegativeResponseException refused) {
                Lines.tell("ack", "id", "", "status", refused.getCommandStatus());
            }
        }
    }

    private static void smsc(int port) throws Exception {
        AtomicInteger count = new AtomicInteger(0xabc000);
        SMPPServerSessionListener listener = new SMPPServerSessionListener(port);
        Lines.tell("listening");
        SMPPServerSession session = listener.accept();
        session.setMessageReceiverListener((ServerMessageReceiverListener) Proxy.newProxyInstance(
            Jsmpp.class.getClassLoader(), new Class<?>[] {ServerMessageReceiverListener.class},
            (proxy, method, given) -> {
                if (!method.getName().equals("onAcceptSubmitSm")) return null;
                String id = Integer.toHexString(count.incrementAndGet());
                told("submit", id, (SubmitSm) given[0]);
                return new SubmitSmResult(new MessageId(id), new OptionalParameter[0]);
            }));
        session.addSessionStateListener((now, before, source) -> {
            if (now == SessionState.CLOSED) Lines.tell("closed");
        });
        BindRequest bind = session.waitForBind(10_000);
        Lines.tell("bind", "system_id", bind.getSystemId(), "password", bind.getPassword(), "type", bind.getBindType());
        bind.accept("jsmpp");
        while (true) {
            Map<String, String> order = Lines.next();
            boolean receipt = order.get("do").equals("receipt");
            session.deliverShortMessage("", TON, NPI, order.get("from"), TypeOfNumber.UNKNOWN, NPI, order.get("to"),
                new ESMClass(receipt ? 4 : 0), (byte) 0, (byte) 0, UNWANTED,
                DataCodings.newInstance((byte) (receipt ? 0 : 8)),
                order.get("text").getBytes(receipt ? StandardCharsets.US_ASCII : StandardCharsets.UTF_16BE));
            Lines.tell("delivered");
        }
    }

    public static void main(String[] words) throws Exception {
        Lines.tell("started");
        int port = Integer.parseInt(words[1]);
        if (words[0].equals("esme")) esme(port, words[2], words[3]);
        else smsc(port);
    }
}
