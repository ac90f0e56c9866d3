import com.zx.sms.codec.cmpp.msg.CmppDeliverRequestMessage;
import com.zx.sms.codec.cmpp.msg.CmppDeliverResponseMessage;
import com.zx.sms.codec.cmpp.msg.CmppReportRequestMessage;
import com.zx.sms.codec.cmpp.msg.CmppSubmitRequestMessage;
import com.zx.sms.codec.cmpp.msg.CmppSubmitResponseMessage;
import com.zx.sms.codec.sgip12.msg.SgipDeliverRequestMessage;
import com.zx.sms.codec.sgip12.msg.SgipDeliverResponseMessage;
import com.zx.sms.codec.sgip12.msg.SgipReportRequestMessage;
import com.zx.sms.codec.sgip12.msg.SgipReportResponseMessage;
import com.zx.sms.codec.sgip12.msg.SgipSubmitRequestMessage;
import com.zx.sms.codec.sgip12.msg.SgipSubmitResponseMessage;
import com.zx.sms.codec.smgp.msg.SMGPDeliverMessage;
import com.zx.sms.codec.smgp.msg.SMGPDeliverRespMessage;
import com.zx.sms.codec.smgp.msg.SMGPReportData;
import com.zx.sms.codec.smgp.msg.SMGPSubmitMessage;
import com.zx.sms.codec.smgp.msg.SMGPSubmitRespMessage;
import com.zx.sms.codec.smgp.util.SMGPMsgIdUtil;
import com.zx.sms.common.util.DefaultMsgIdUtil;
import com.zx.sms.connect.manager.EndpointEntity;
import com.zx.sms.connect.manager.EndpointManager;
import com.zx.sms.connect.manager.cmpp.CMPPClientEndpointEntity;
import com.zx.sms.connect.manager.cmpp.CMPPEndpointEntity;
import com.zx.sms.connect.manager.cmpp.CMPPServerChildEndpointEntity;
import com.zx.sms.connect.manager.cmpp.CMPPServerEndpointEntity;
import com.zx.sms.connect.manager.sgip.SgipClientEndpointEntity;
import com.zx.sms.connect.manager.sgip.SgipEndpointEntity;
import com.zx.sms.connect.manager.sgip.SgipServerChildEndpointEntity;
import com.zx.sms.connect.manager.sgip.SgipServerEndpointEntity;
import com.zx.sms.connect.manager.smgp.SMGPClientEndpointEntity;
import com.zx.sms.connect.manager.smgp.SMGPEndpointEntity;
import com.zx.sms.connect.manager.smgp.SMGPServerChildEndpointEntity;
import com.zx.sms.connect.manager.smgp.SMGPServerEndpointEntity;
import com.zx.sms.handler.api.AbstractBusinessHandler;
import com.zx.sms.handler.api.BusinessHandlerInterface;
import com.zx.sms.session.cmpp.SessionState;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Maven's SMSGate (com.chinamobile.cmos:sms-core) as an SP or as a gateway of CMPP, SMGP or SGIP, driven by JSON lines:
 * see speaker.py. Usage: Smsgate client|server cmpp|smgp|sgip VERSION PORT NAME PASSWORD. VERSION is the octet.
 */
public final class Smsgate {
    private static volatile Channel channel;
    private static volatile long sgipStamp;

    private static String hex(byte[] octets) {
        StringBuilder written = new StringBuilder();
        for (byte octet : octets) written.append(String.format("%02x", octet));
        return written.toString();
    }

    private static String id(com.zx.sms.common.util.MsgId id) {
        return hex(DefaultMsgIdUtil.msgId2Bytes(id));
    }

    private static String id(com.zx.sms.codec.smgp.msg.MsgId id) {
        try {
            return hex(SMGPMsgIdUtil.msgId2Bytes(id));
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** All parts that became this message, itself among them. */
    private static <T> List<T> parts(T whole, List<T> fragments) {
        List<T> all = fragments == null ? new ArrayList<>() : new ArrayList<>(fragments);
        all.add(whole);
        return all;
    }

    private static final class Handler extends AbstractBusinessHandler {
        @Override
        public String name() {
            return "speaker";
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
            if (event == SessionState.Connect) {
                channel = ctx.channel();
                Lines.tell("bound");
            }
            ctx.fireUserEventTriggered(event);
        }

        @Override
        public void channelInactive(ChannelHandlerContext ctx) {
            Lines.tell("closed");
            ctx.fireChannelInactive();
        }

        @Override
        public void channelRead(ChannelHandlerContext ctx, Object met) throws Exception {
            Channel to = ctx.channel();
            if (met instanceof CmppSubmitRequestMessage) heard(to, (CmppSubmitRequestMessage) met);
            else if (met instanceof CmppDeliverRequestMessage) heard(to, (CmppDeliverRequestMessage) met);
            else if (met instanceof SMGPSubmitMessage) heard(to, (SMGPSubmitMessage) met);
            else if (met instanceof SMGPDeliverMessage) heard(to, (SMGPDeliverMessage) met);
            else if (met instanceof SgipSubmitRequestMessage) heard(to, (SgipSubmitRequestMessage) met);
            else if (met instanceof SgipDeliverRequestMessage) heard(to, (SgipDeliverRequestMessage) met);
            else if (met instanceof SgipReportRequestMessage) {
                SgipReportRequestMessage report = (SgipReportRequestMessage) met;
                Lines.tell("report", "id", report.getSequenceId(), "stat", report.getState(), "error", report.getErrorcode());
                to.writeAndFlush(new SgipReportResponseMessage(report.getHeader()));
            } else if (met instanceof CmppSubmitResponseMessage) {
                CmppSubmitResponseMessage ack = (CmppSubmitResponseMessage) met;
                Lines.tell("ack", "id", id(ack.getMsgId()), "result", ack.getResult());
            } else if (met instanceof SMGPSubmitRespMessage) {
                SMGPSubmitRespMessage ack = (SMGPSubmitRespMessage) met;
                Lines.tell("ack", "id", id(ack.getMsgId()), "result", ack.getStatus());
            } else if (met instanceof SgipSubmitResponseMessage) {
                SgipSubmitResponseMessage ack = (SgipSubmitResponseMessage) met;
                Lines.tell("ack", "id", ack.getSequenceNumber(), "result", ack.getResult());
            } else if (met instanceof CmppDeliverResponseMessage) {
                Lines.tell("delivered", "result", ((CmppDeliverResponseMessage) met).getResult());
            } else if (met instanceof SMGPDeliverRespMessage) {
                Lines.tell("delivered", "result", ((SMGPDeliverRespMessage) met).getStatus());
            } else if (met instanceof SgipDeliverResponseMessage) {
                Lines.tell("delivered", "result", ((SgipDeliverResponseMessage) met).getResult());
            } else if (met instanceof SgipReportResponseMessage) {
                Lines.tell("delivered", "result", ((SgipReportResponseMessage) met).getResult());
            } else {
                Lines.tell("other", "name", met.getClass().getSimpleName());
            }
        }
    }

    // ── a gateway: takes every part, then reports on it

    private static void heard(Channel to, CmppSubmitRequestMessage submit) {
        List<CmppDeliverRequestMessage> reports = new ArrayList<>();
        for (CmppSubmitRequestMessage part : parts(submit, submit.getFragments())) {
            CmppSubmitResponseMessage ack = new CmppSubmitResponseMessage(part.getHeader().getSequenceId());
            ack.setResult(0);
            to.writeAndFlush(ack);
            CmppReportRequestMessage report = new CmppReportRequestMessage();
            report.setMsgId(ack.getMsgId());
            report.setDestterminalId(submit.getDestterminalId()[0]);
            report.setStat("DELIVRD");
            report.setSubmitTime("2611250340");
            report.setDoneTime("2611250341");
            CmppDeliverRequestMessage deliver = new CmppDeliverRequestMessage();
            deliver.setDestId(submit.getSrcId());
            deliver.setSrcterminalId(submit.getDestterminalId()[0]);
            deliver.setReportRequestMessage(report);
            reports.add(deliver);
            Lines.tell("took", "id", id(ack.getMsgId()));
        }
        Lines.tell("submit", "text", submit.getMsgContent(), "to", submit.getDestterminalId()[0], "from", submit.getSrcId(),
            "wants", submit.getRegisteredDelivery());
        for (CmppDeliverRequestMessage report : reports) to.writeAndFlush(report);
    }

    private static void heard(Channel to, SMGPSubmitMessage submit) {
        List<SMGPDeliverMessage> reports = new ArrayList<>();
        for (SMGPSubmitMessage part : parts(submit, submit.getFragments())) {
            SMGPSubmitRespMessage ack = new SMGPSubmitRespMessage();
            ack.setSequenceNo(part.getSequenceNo());
            ack.setStatus(0);
            to.writeAndFlush(ack);
            SMGPReportData report = new SMGPReportData();
            report.setMsgId(ack.getMsgId());
            report.setStat("DELIVRD");
            report.setErr("000");
            report.setSub("001");
            report.setDlvrd("001");
            report.setSubTime("2611250340");
            report.setDoneTime("2611250341");
            report.setTxt("");
            SMGPDeliverMessage deliver = new SMGPDeliverMessage();
            deliver.setDestTermId(submit.getSrcTermId());
            deliver.setSrcTermId(submit.getDestTermIdArray()[0]);
            deliver.setReport(report);
            reports.add(deliver);
            Lines.tell("took", "id", id(ack.getMsgId()));
        }
        Lines.tell("submit", "text", submit.getMsgContent(), "to", submit.getDestTermIdArray()[0], "from",
            submit.getSrcTermId(), "wants", submit.isNeedReport() ? 1 : 0);
        for (SMGPDeliverMessage report : reports) to.writeAndFlush(report);
    }

    private static void heard(Channel to, SgipSubmitRequestMessage submit) {
        // SMSGate gives the parts it joined the time of joining for the stamp of their sequence numbers; ours keeps
        // one stamp for a connection, so it is learnt from what came whole.
        if (submit.getFragments() == null || submit.getFragments().isEmpty()) sgipStamp = submit.getTimestamp();
        List<SgipReportRequestMessage> reports = new ArrayList<>();
        for (SgipSubmitRequestMessage part : parts(submit, submit.getFragments())) {
            SgipSubmitResponseMessage ack = new SgipSubmitResponseMessage(part.getHeader());
            ack.setTimestamp(sgipStamp);
            ack.setResult((short) 0);
            to.writeAndFlush(ack);
            SgipReportRequestMessage report = new SgipReportRequestMessage();
            report.setSequenceId(ack.getSequenceNumber());
            report.setUsernumber(submit.getUsernumber()[0]);
            report.setState((short) 0);
            reports.add(report);
            Lines.tell("took", "id", ack.getSequenceNumber());
        }
        Lines.tell("submit", "text", submit.getMsgContent(), "to", submit.getUsernumber()[0], "from", submit.getSpnumber(),
            "wants", submit.getReportflag());
        for (SgipReportRequestMessage report : reports) to.writeAndFlush(report);
    }

    // ── an SP: acknowledges what it is told

    private static void heard(Channel to, CmppDeliverRequestMessage deliver) {
        for (CmppDeliverRequestMessage part : parts(deliver, deliver.getFragments())) {
            CmppDeliverResponseMessage answer = new CmppDeliverResponseMessage(part.getHeader().getSequenceId());
            answer.setMsgId(part.getMsgId());
            answer.setResult(0);
            to.writeAndFlush(answer);
        }
        if (deliver.isReport()) {
            CmppReportRequestMessage report = deliver.getReportRequestMessage();
            Lines.tell("report", "id", id(report.getMsgId()), "stat", report.getStat(), "number", report.getDestterminalId());
        } else {
            Lines.tell("text", "text", deliver.getMsgContent(), "from", deliver.getSrcterminalId(), "to", deliver.getDestId());
        }
    }

    private static void heard(Channel to, SMGPDeliverMessage deliver) {
        for (SMGPDeliverMessage part : parts(deliver, deliver.getFragments())) {
            SMGPDeliverRespMessage answer = new SMGPDeliverRespMessage();
            answer.setSequenceNo(part.getSequenceNo());
            answer.setMsgId(part.getMsgId());
            answer.setStatus(0);
            to.writeAndFlush(answer);
        }
        if (deliver.isReport()) {
            SMGPReportData report = deliver.getReport();
            Lines.tell("report", "id", id(report.getMsgId()), "stat", report.getStat(), "error", report.getErr());
        } else {
            Lines.tell("text", "text", deliver.getMsgContent(), "from", deliver.getSrcTermId(), "to", deliver.getDestTermId());
        }
    }

    private static void heard(Channel to, SgipDeliverRequestMessage deliver) {
        for (SgipDeliverRequestMessage part : parts(deliver, deliver.getFragments())) {
            SgipDeliverResponseMessage answer = new SgipDeliverResponseMessage(part.getHeader());
            answer.setTimestamp(part.getTimestamp());
            answer.setResult((short) 0);
            to.writeAndFlush(answer);
        }
        Lines.tell("text", "text", deliver.getMsgContent(), "from", deliver.getUsernumber(), "to", deliver.getSpnumber());
    }

    // ── orders

    /** A submit of an SP, or a text of a gateway. */
    private static Object order(String protocol, Map<String, String> order) {
        String text = order.get("text");
        boolean submit = order.get("do").equals("submit");
        switch (protocol + (submit ? " submit" : " text")) {
            case "cmpp submit": {
                CmppSubmitRequestMessage pdu = new CmppSubmitRequestMessage();
                pdu.setDestterminalId(order.get("to"));
                pdu.setSrcId(order.get("from"));
                pdu.setMsgsrc(order.get("from"));
                pdu.setRegisteredDelivery((short) 1);
                pdu.setMsgContent(text);
                return pdu;
            }
            case "smgp submit": {
                SMGPSubmitMessage pdu = new SMGPSubmitMessage();
                pdu.setDestTermIdArray(order.get("to"));
                pdu.setSrcTermId(order.get("from"));
                pdu.setNeedReport(true);
                pdu.setMsgContent(text);
                return pdu;
            }
            case "sgip submit": {
                SgipSubmitRequestMessage pdu = new SgipSubmitRequestMessage();
                pdu.setUsernumber(order.get("to"));
                pdu.setSpnumber(order.get("from"));
                pdu.setReportflag((short) 1);
                pdu.setMsgContent(text);
                return pdu;
            }
            case "cmpp text": {
                CmppDeliverRequestMessage pdu = new CmppDeliverRequestMessage();
                pdu.setSrcterminalId(order.get("from"));
                pdu.setDestId(order.get("to"));
                pdu.setMsgContent(text);
                return pdu;
            }
            case "smgp text": {
                SMGPDeliverMessage pdu = new SMGPDeliverMessage();
                pdu.setSrcTermId(order.get("from"));
                pdu.setDestTermId(order.get("to"));
                pdu.setMsgContent(text);
                return pdu;
            }
            default: {
                SgipDeliverRequestMessage pdu = new SgipDeliverRequestMessage();
                pdu.setUsernumber(order.get("from"));
                pdu.setSpnumber(order.get("to"));
                pdu.setMsgContent(text);
                return pdu;
            }
        }
    }

    // ── endpoints

    private static <T extends EndpointEntity> T known(T entity, String version, String name, String password) {
        if (entity instanceof CMPPEndpointEntity) {
            CMPPEndpointEntity cmpp = (CMPPEndpointEntity) entity;
            cmpp.setVersion(Short.parseShort(version));
            cmpp.setUserName(name);
            cmpp.setPassword(password);
            cmpp.setGroupName("test");
        } else if (entity instanceof SMGPEndpointEntity) {
            SMGPEndpointEntity smgp = (SMGPEndpointEntity) entity;
            smgp.setClientVersion(Byte.parseByte(version));
            smgp.setClientID(name);
            smgp.setPassword(password);
        } else {
            SgipEndpointEntity sgip = (SgipEndpointEntity) entity;
            sgip.setLoginName(name);
            sgip.setLoginPassowrd(password);
            sgip.setNodeId(3010092008L);
        }
        List<BusinessHandlerInterface> handlers = new ArrayList<>();
        handlers.add(new Handler());
        entity.setBusinessHandlerSet(handlers);
        entity.setId("account");
        entity.setValid(true);
        entity.setChannelType(EndpointEntity.ChannelType.DUPLEX);
        entity.setSupportLongmsg(EndpointEntity.SupportLongMessage.BOTH);
        entity.setMaxChannels((short) 1);
        entity.setRetryWaitTimeSec((short) 60);
        entity.setMaxRetryCnt((short) 1);
        entity.setReSendFailMsg(false);
        return entity;
    }

    private static EndpointEntity endpoint(String role, String protocol, String version, String name, String password) {
        boolean client = role.equals("client");
        EndpointEntity account;
        EndpointEntity server;
        switch (protocol) {
            case "cmpp":
                account = client ? new CMPPClientEndpointEntity() : new CMPPServerChildEndpointEntity();
                server = new CMPPServerEndpointEntity();
                break;
            case "smgp":
                account = client ? new SMGPClientEndpointEntity() : new SMGPServerChildEndpointEntity();
                server = new SMGPServerEndpointEntity();
                break;
            default:
                account = client ? new SgipClientEndpointEntity() : new SgipServerChildEndpointEntity();
                server = new SgipServerEndpointEntity();
        }
        known(account, version, name, password);
        if (client) return account;
        ((com.zx.sms.connect.manager.ServerEndpoint) server).addchild(account);
        server.setId("server");
        server.setValid(true);
        return server;
    }

    public static void main(String[] words) throws Exception {
        Lines.tell("started");
        String protocol = words[1];
        EndpointEntity endpoint = endpoint(words[0], protocol, words[2], words[4], words[5]);
        endpoint.setHost("127.0.0.1");
        endpoint.setPort(Integer.valueOf(words[3]));
        EndpointManager.INS.openEndpoint(endpoint);
        Lines.tell("opened");
        while (true) {
            Map<String, String> order = Lines.next();
            if (order.get("do").equals("close")) EndpointManager.INS.close(endpoint);
            else channel.writeAndFlush(order(protocol, order));
        }
    }
}
