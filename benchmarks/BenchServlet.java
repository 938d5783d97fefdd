import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** benchapp.py as a servlet. */
public class BenchServlet extends HttpServlet {
    private static final byte[] HELLO = "Hello, World!".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] BLOCK = new byte[65536];
    static {
        Arrays.fill(BLOCK, (byte) 'x');
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String path = request.getRequestURI();
        byte[] body = HELLO;
        long size = 0;
        if (path.equals("/echo")) {
            byte[] buffer = new byte[65536];
            InputStream in = request.getInputStream();
            for (int n; (n = in.read(buffer)) > 0; )
                size += n;
            body = Long.toString(size).getBytes(StandardCharsets.US_ASCII);
            size = 0;
        } else if (path.equals("/sleep")) {
            try {
                Thread.sleep(50);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        } else if (Character.isDigit(path.charAt(path.length() - 1))) {
            size = Long.parseLong(path.substring(path.lastIndexOf('/') + 1));
        }
        response.setContentType("text/plain");
        response.setContentLengthLong(size > 0 ? size : body.length);
        OutputStream out = response.getOutputStream();
        if (size == 0)
            out.write(body);
        for (; size > 0; size -= BLOCK.length)
            out.write(BLOCK, 0, (int) Math.min(size, BLOCK.length));
    }
}
