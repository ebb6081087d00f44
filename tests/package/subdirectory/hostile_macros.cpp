// What systems define as macros must not be names of ours: complex numbers' I, the terminal's B0,
// X11's None and Status, Windows' small and interface.
#include <complex.h>
#include <sys/param.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <termios.h>

#define None 0L
#define Always 2
#define Bool int
#define Status int
#define Success 0
#define DestroyAll 0
#define small char
#define near
#define far
#define interface struct
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define TRUE 1
#define FALSE 0
#define NO_ERROR 0L
#define DELETE (0x00010000L)

#include "../library.hpp"
