import java.lang.reflect.Field;
import java.util.concurrent.locks.LockSupport;
import sun.misc.Unsafe;

/** The same as places.c, in Java, but for the thread that goes up and down: nobody finds Java's frames while they come and go. */
public class Places {
    static final int SERVE = 1, DESCEND = 2, WANDER = 3, AWAIT_BYTE = 4, AWAIT_SIGNAL = 5, SLEEP_ON = 6, SPIN = 7;
    static final int THREADS = 5, BYTES = 512, TID = 0, DEPTH = 8, COUNT = 16, PLACES = 64;

    static final Unsafe memory = memory();
    static final long records = memory.allocateMemory(8 * BYTES);

    /** What debuggers are asked for: see FIELDS in tests/debuggers/java.rs. */
    static class Pair {
        volatile long first, second;
        final String greeting = "frozen in time";
        final short prime = 7;
    }

    static final Pair pair = new Pair();
    static final Object nobody = new Object();

    interface Pause {
        void here(long record, int level) throws Exception;
    }

    static void enter(long record, int place, int level) {
        long depth = memory.getLongVolatile(null, record + DEPTH);
        memory.putLongVolatile(null, record + PLACES + 8 * depth, (long) place << 32 | level);
        memory.putLongVolatile(null, record + DEPTH, depth + 1);
    }

    static void awaitByte(long record, int level) throws Exception {
        enter(record, AWAIT_BYTE, level);
        System.in.read();
    }

    static void awaitSignal(long record, int level) throws Exception {
        enter(record, AWAIT_SIGNAL, level);
        synchronized (nobody) {
            while (true) nobody.wait();
        }
    }

    static void sleepOn(long record, int level) throws Exception {
        enter(record, SLEEP_ON, level);
        while (true) LockSupport.park();
    }

    static void spin(long record, int level) {
        enter(record, SPIN, level);
        while (true) {
            pair.first++;
            memory.putLongVolatile(null, record + COUNT, memory.getLong(record + COUNT) + 1);
            pair.second++;
        }
    }

    static void descend(long record, int level, Pause pause) throws Exception {
        enter(record, DESCEND, level);
        if (level == 0) pause.here(record, level);
        else wander(record, level - 1, pause);
    }

    static void wander(long record, int level, Pause pause) throws Exception {
        enter(record, WANDER, level);
        if (level == 0) pause.here(record, level);
        else descend(record, level - 1, pause);
    }

    static final Pause[] PAUSES = {Places::awaitByte, Places::awaitSignal, Places::sleepOn, Places::spin, Places::sleepOn};

    static void serve(int number) {
        try {
            long record = records + number * BYTES;
            enter(record, SERVE, number);
            descend(record, 3 + 2 * number, PAUSES[number]);
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    static Unsafe memory() {
        try {
            Field field = Unsafe.class.getDeclaredField("theUnsafe");
            field.setAccessible(true);
            return (Unsafe) field.get(null);
        } catch (ReflectiveOperationException error) {
            throw new AssertionError(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        memory.setMemory(records, 8 * BYTES, (byte) 0);
        for (int number = 0; number < THREADS; number++) {
            int own = number;
            new Thread(() -> serve(own), "place " + number).start();
            // The functions that it is in before it waits.
            while (memory.getLongVolatile(null, records + number * BYTES + DEPTH) < 1 + (3 + 2 * number + 1) + 1) Thread.sleep(1);
        }
        // With -XX:-UseCompressedOops a reference is an address, and nothing is collected that would move it.
        Object[] reference = {pair};
        long address = memory.getLong(reference, Unsafe.ARRAY_OBJECT_BASE_OFFSET);
        System.out.println("records " + records + " count " + THREADS + " pair " + address);
        System.out.flush();
    }
}
