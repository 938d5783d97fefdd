import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Collections;
import java.util.HexFormat;

/**
 * What the tests of the AJP client ask of a container that is not ours: a
 * request told back, uploads hashed, downloads of any size, cookies, statuses.
 *
 * /dump tells facts as lines of "name: value", /upload the length and SHA-256 of
 * the body, /download?size=N sends N bytes of a pattern, /unread leaves the body
 * alone, /cookies?count=N sets cookies, /status?status=N answers so, /flush sends
 * two pieces, each flushed, /fail breaks off after the headers.
 */
public class TestServlet extends HttpServlet {
    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        response.setContentType("text/plain");
        String path = request.getPathInfo() == null ? "/" : request.getPathInfo();
        switch (path) {
            case "/upload" -> text(response, upload(request));
            case "/download" -> download(response, Integer.parseInt(request.getParameter("size")));
            case "/unread" -> text(response, "unread\n");
            case "/cookies" -> {
                int count = Integer.parseInt(request.getParameter("count"));
                for (int i = 0; i < count; i++) {
                    response.addCookie(new Cookie("cookie" + i, "value" + i));
                }
                text(response, "cookies\n");
            }
            case "/status" -> {
                response.setStatus(Integer.parseInt(request.getParameter("status")));
                text(response, "status\n");
            }
            case "/flush" -> {
                OutputStream out = response.getOutputStream();
                out.write("first\n".getBytes(StandardCharsets.US_ASCII));
                response.flushBuffer();
                out.write("second\n".getBytes(StandardCharsets.US_ASCII));
                response.flushBuffer();
            }
            case "/fail" -> {
                if (request.getParameter("length") != null) {
                    response.setContentLength(Integer.parseInt(request.getParameter("length")));
                }
                response.getOutputStream().write('x');
                response.flushBuffer();
                throw new IOException("failed on purpose");
            }
            default -> text(response, dump(request));
        }
    }

    private static void text(HttpServletResponse response, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        response.setContentLength(body.length);
        response.getOutputStream().write(body);
    }

    private static String dump(HttpServletRequest request) throws IOException {
        StringBuilder told = new StringBuilder();
        line(told, "method", request.getMethod());
        line(told, "protocol", request.getProtocol());
        line(told, "uri", request.getRequestURI());
        line(told, "query", request.getQueryString());
        line(told, "remote_addr", request.getRemoteAddr());
        line(told, "remote_port", request.getRemotePort());
        line(told, "server_name", request.getServerName());
        line(told, "server_port", request.getServerPort());
        line(told, "scheme", request.getScheme());
        line(told, "remote_user", request.getRemoteUser());
        line(told, "cipher", request.getAttribute("jakarta.servlet.request.cipher_suite"));
        line(told, "key_size", request.getAttribute("jakarta.servlet.request.key_size"));
        for (String name : Collections.list(request.getHeaderNames())) {
            for (String value : Collections.list(request.getHeaders(name))) {
                line(told, "header " + name.toLowerCase(), value);
            }
        }
        return told + upload(request);
    }

    private static void line(StringBuilder told, String name, Object value) {
        told.append(name).append(": ").append(value).append('\n');
    }

    private static String upload(HttpServletRequest request) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IOException(error);
        }
        byte[] buffer = new byte[65536];
        long length = 0;
        InputStream in = request.getInputStream();
        for (int count; (count = in.read(buffer)) > 0; ) {
            digest.update(buffer, 0, count);
            length += count;
        }
        StringBuilder told = new StringBuilder();
        line(told, "length", length);
        line(told, "sha256", HexFormat.of().formatHex(digest.digest()));
        return told.toString();
    }

    private static void download(HttpServletResponse response, int size) throws IOException {
        byte[] block = new byte[65536];
        for (int word = 0; word < block.length / 4; word++) {
            for (int i = 0; i < 4; i++) {
                block[word * 4 + i] = (byte) (word >>> 8 * (3 - i));
            }
        }
        response.setContentType("application/octet-stream");
        response.setContentLength(size);
        for (int left = size; left > 0; left -= block.length) {
            response.getOutputStream().write(block, 0, Math.min(left, block.length));
        }
    }
}
