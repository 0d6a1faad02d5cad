/* The resolver of musl: print the IPv4 addresses of a name. Compiled by musl-gcc. */
#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv) {
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL;
        char text[64];
        int r = argc == 2 ? getaddrinfo(argv[1], NULL, &hints, &all) : EAI_FAIL;

        if (r != 0) {
                fprintf(stderr, "%s\n", gai_strerror(r));
                return 1;
        }
        for (; all; all = all->ai_next)
                if (getnameinfo(all->ai_addr, all->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) ==
                    0)
                        puts(text);
        return 0;
}
