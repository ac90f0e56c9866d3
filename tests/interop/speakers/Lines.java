import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.io.JsonStringEncoder;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** How a speaker in Java is driven: one JSON object a line, both ways; see speaker.py. All values are strings. */
final class Lines {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private static final BlockingQueue<Map<String, String>> ORDERS = new LinkedBlockingQueue<>();

    static {
        Thread reader = new Thread(Lines::listen);
        reader.setDaemon(true);
        reader.start();
    }

    private Lines() {}

    static synchronized void tell(String event, Object... pairs) {
        StringBuilder line = new StringBuilder("{\"event\":\"").append(event).append('"');
        for (int at = 0; at < pairs.length; at += 2) {
            String told = new String(JsonStringEncoder.getInstance().quoteAsString(String.valueOf(pairs[at + 1])));
            line.append(",\"").append(pairs[at]).append("\":\"").append(told).append('"');
        }
        OUT.println(line.append('}'));
    }

    /** Wait for the next order. */
    static Map<String, String> next() throws InterruptedException {
        return ORDERS.take();
    }

    /** Read orders; where there are no more, the program ends, whatever it waits for. */
    private static void listen() {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) ORDERS.add(read(line));
        } catch (IOException error) {
            error.printStackTrace();
        }
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, String> read(String line) throws IOException {
        Map<String, String> order = new HashMap<>();
        JsonParser parser = new JsonFactory().createParser(line);
        while (parser.nextToken() != null) {
            if (parser.getCurrentToken() == JsonToken.FIELD_NAME) {
                String name = parser.getCurrentName();
                parser.nextToken();
                order.put(name, parser.getText());
            }
        }
        return order;
    }
}
