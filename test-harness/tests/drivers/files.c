/* What drivers do with files by handles: each behaviour checks some of it as its documentation has it. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

extern POBJECT_TYPE *IoFileObjectType;
NTSTATUS NTAPI ZwDeviceIoControlFile(HANDLE File, HANDLE Event, PIO_APC_ROUTINE Routine, PVOID Context,
    PIO_STATUS_BLOCK Status, ULONG Code, PVOID Input, ULONG InputLength, PVOID Output, ULONG OutputLength);
NTSTATUS NTAPI ZwDeleteFile(POBJECT_ATTRIBUTES Attributes);
NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE Handle, BOOLEAN Alertable, PLARGE_INTEGER Timeout);
#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

static NTSTATUS Open(PCWSTR Name, ACCESS_MASK Access, ULONG Share, ULONG Disposition, ULONG Options, HANDLE *File, ULONG_PTR *Information) {
    UNICODE_STRING Text;
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK Block = {0};
    NTSTATUS Status;
    RtlInitUnicodeString(&Text, Name);
    InitializeObjectAttributes(&Attributes, &Text, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    Status = ZwCreateFile(File, Access | SYNCHRONIZE, &Attributes, &Block, NULL, FILE_ATTRIBUTE_NORMAL, Share, Disposition,
        Options | FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0);
    if (Information != NULL)
        *Information = Block.Information;
    return Status;
}

static NTSTATUS Write(HANDLE File, const char *Bytes, ULONG Length) {
    IO_STATUS_BLOCK Block;
    NTSTATUS Status = ZwWriteFile(File, NULL, NULL, NULL, &Block, (PVOID)Bytes, Length, NULL, NULL);
    return NT_SUCCESS(Status) && Block.Information != Length ? STATUS_UNSUCCESSFUL : Status;
}

static NTSTATUS Read(HANDLE File, LONGLONG Offset, char *Bytes, ULONG Length, ULONG_PTR *Done) {
    LARGE_INTEGER From = {.QuadPart = Offset};
    IO_STATUS_BLOCK Block = {0};
    NTSTATUS Status = ZwReadFile(File, NULL, NULL, NULL, &Block, Bytes, Length, &From, NULL);
    *Done = Block.Information;
    return Status;
}

static LONGLONG LengthOf(HANDLE File) {
    FILE_STANDARD_INFORMATION Standard = {0};
    IO_STATUS_BLOCK Block;
    NTSTATUS Status = ZwQueryInformationFile(File, &Block, &Standard, sizeof(Standard), FileStandardInformation);
    return NT_SUCCESS(Status) ? Standard.EndOfFile.QuadPart : -1;
}

BEHAVIOUR(a_file_is_read_as_it_was_written) {
    HANDLE File;
    ULONG_PTR Information, Done;
    char Bytes[16];
    LARGE_INTEGER Position;
    IO_STATUS_BLOCK Block;
    FILE_BASIC_INFORMATION Basic;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\driver.log", GENERIC_READ | GENERIC_WRITE, 0, FILE_OPEN_IF, FILE_NON_DIRECTORY_FILE, &File, &Information)));
    CHECK(Information == FILE_CREATED && LengthOf(File) == 0);
    CHECK(NT_SUCCESS(Write(File, "first ", 6)) && NT_SUCCESS(Write(File, "second", 6)) && LengthOf(File) == 12);
    CHECK(NT_SUCCESS(Read(File, 6, Bytes, sizeof(Bytes), &Done)) && Done == 6 && Bytes[0] == 's' && Bytes[5] == 'd');
    CHECK(Read(File, 12, Bytes, sizeof(Bytes), &Done) == STATUS_END_OF_FILE);
    CHECK(NT_SUCCESS(ZwQueryInformationFile(File, &Block, &Position, sizeof(Position), FilePositionInformation)) && Position.QuadPart == 12);
    CHECK(NT_SUCCESS(ZwQueryInformationFile(File, &Block, &Basic, sizeof(Basic), FileBasicInformation)) && Basic.LastWriteTime.QuadPart != 0);
    CHECK(ZwQueryInformationFile(File, &Block, &Basic, 4, FileBasicInformation) == STATUS_INFO_LENGTH_MISMATCH);
    ZwClose(File);
    CHECK(NT_SUCCESS(Open(L"\\DosDevices\\c:\\DRIVER.LOG", FILE_APPEND_DATA, FILE_SHARE_READ, FILE_OPEN, 0, &File, &Information)));
    CHECK(Information == FILE_OPENED && NT_SUCCESS(Write(File, "!", 1)) && LengthOf(File) == 13);
    ZwClose(File);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\driver.log", GENERIC_WRITE, 0, FILE_OVERWRITE_IF, 0, &File, &Information)));
    CHECK(Information == FILE_OVERWRITTEN && LengthOf(File) == 0);
    ZwClose(File);
    return STATUS_SUCCESS;
}

BEHAVIOUR(what_cannot_be_opened_says_why) {
    HANDLE File, Second;
    UNREFERENCED_PARAMETER(Call);
    CHECK(Open(L"\\??\\C:\\none.txt", GENERIC_READ, 0, FILE_OPEN, 0, &File, NULL) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(Open(L"\\??\\C:\\none\\file.txt", GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL) == STATUS_OBJECT_PATH_NOT_FOUND);
    CHECK(Open(L"\\??\\C:\\what?", GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL) == STATUS_OBJECT_NAME_INVALID);
    CHECK(Open(L"\\??\\C:\\..\\up", GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL) == STATUS_OBJECT_NAME_INVALID);
    CHECK(Open(L"driver.log", GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL) == STATUS_OBJECT_PATH_SYNTAX_BAD);
    CHECK(Open(L"\\SystemRoot\\System32", GENERIC_READ, SHARE_ALL, FILE_OPEN, FILE_NON_DIRECTORY_FILE, &File, NULL) == STATUS_FILE_IS_A_DIRECTORY);
    CHECK(NT_SUCCESS(Open(L"\\SystemRoot\\Temp\\one", GENERIC_WRITE, FILE_SHARE_READ, FILE_CREATE, 0, &File, NULL)));
    CHECK(Open(L"\\SystemRoot\\Temp\\one", GENERIC_WRITE, SHARE_ALL, FILE_OPEN, 0, &Second, NULL) == STATUS_SHARING_VIOLATION);
    CHECK(Open(L"\\SystemRoot\\Temp\\one", GENERIC_READ, FILE_SHARE_READ, FILE_OPEN, 0, &Second, NULL) == STATUS_SHARING_VIOLATION);
    CHECK(NT_SUCCESS(Open(L"\\SystemRoot\\Temp\\one", GENERIC_READ, SHARE_ALL, FILE_OPEN, 0, &Second, NULL)));
    CHECK(Open(L"\\SystemRoot\\Temp\\one\\two", GENERIC_WRITE, 0, FILE_CREATE, 0, &Second, NULL) == STATUS_OBJECT_PATH_NOT_FOUND);
    ZwClose(Second);
    CHECK(Open(L"\\SystemRoot\\Temp\\one", GENERIC_READ, SHARE_ALL, FILE_OPEN, FILE_DIRECTORY_FILE, &Second, NULL) == STATUS_NOT_A_DIRECTORY);
    ZwClose(File);
    CHECK(Open(L"\\SystemRoot\\Temp\\one", GENERIC_READ, 0, FILE_CREATE, 0, &File, NULL) == STATUS_OBJECT_NAME_COLLISION);
    return STATUS_SUCCESS;
}

BEHAVIOUR(files_are_cut_renamed_and_deleted) {
    struct {
        FILE_RENAME_INFORMATION Head;
        WCHAR Rest[32];
    } Rename = {{.ReplaceIfExists = FALSE}};
    static const WCHAR Name[] = L"\\??\\C:\\ProgramData\\new";
    FILE_END_OF_FILE_INFORMATION End = {.EndOfFile = {.QuadPart = 2}};
    FILE_DISPOSITION_INFORMATION Disposition = {.DeleteFile = TRUE};
    UNICODE_STRING Text = RTL_CONSTANT_STRING(L"\\??\\C:\\ProgramData\\folder");
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK Block;
    HANDLE File, Folder;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\ProgramData\\old", GENERIC_READ | GENERIC_WRITE | DELETE, 0, FILE_CREATE, 0, &File, NULL)));
    CHECK(NT_SUCCESS(Write(File, "four", 4)));
    CHECK(NT_SUCCESS(ZwSetInformationFile(File, &Block, &End, sizeof(End), FileEndOfFileInformation)) && LengthOf(File) == 2);
    Rename.Head.FileNameLength = sizeof(Name) - sizeof(WCHAR);
    RtlCopyMemory(Rename.Head.FileName, Name, sizeof(Name));
    CHECK(NT_SUCCESS(ZwSetInformationFile(File, &Block, &Rename, sizeof(Rename), FileRenameInformation)));
    CHECK(Open(L"\\??\\C:\\ProgramData\\old", GENERIC_READ, SHARE_ALL, FILE_OPEN, 0, &Folder, NULL) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(NT_SUCCESS(ZwSetInformationFile(File, &Block, &Disposition, sizeof(Disposition), FileDispositionInformation)));
    CHECK(Open(Name, GENERIC_READ, SHARE_ALL, FILE_OPEN, 0, &Folder, NULL) == STATUS_DELETE_PENDING);
    ZwClose(File);
    CHECK(Open(Name, GENERIC_READ, SHARE_ALL, FILE_OPEN, 0, &File, NULL) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(NT_SUCCESS(Open(Text.Buffer, GENERIC_READ | DELETE, SHARE_ALL, FILE_CREATE, FILE_DIRECTORY_FILE, &Folder, NULL)));
    InitializeObjectAttributes(&Attributes, &Text, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    RtlInitUnicodeString(&Text, L"inside");
    Attributes.RootDirectory = Folder;
    CHECK(NT_SUCCESS(ZwCreateFile(&File, GENERIC_WRITE | SYNCHRONIZE, &Attributes, &Block, NULL, 0, 0, FILE_CREATE, FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0)));
    ZwClose(File);
    CHECK(ZwSetInformationFile(Folder, &Block, &Disposition, sizeof(Disposition), FileDispositionInformation) == STATUS_DIRECTORY_NOT_EMPTY);
    CHECK(NT_SUCCESS(ZwDeleteFile(&Attributes)));
    CHECK(NT_SUCCESS(ZwSetInformationFile(Folder, &Block, &Disposition, sizeof(Disposition), FileDispositionInformation)));
    ZwClose(Folder);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_device_is_opened_and_asked_by_its_handle) {
    const char Asked[] = "\0nothing_of_this_name";
    IO_STATUS_BLOCK Block;
    HANDLE Device;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(Open(L"\\Device\\Verifier", GENERIC_READ | GENERIC_WRITE, 0, FILE_OPEN, 0, &Device, NULL)));
    CHECK(ZwDeviceIoControlFile(Device, NULL, NULL, NULL, &Block, CONTROL_CODE, (PVOID)Asked, sizeof(Asked), NULL, 0) == STATUS_NOT_IMPLEMENTED);
    CHECK(NT_SUCCESS(ZwWriteFile(Device, NULL, NULL, NULL, &Block, (PVOID)Asked, 4, NULL, NULL)));
    ZwClose(Device);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Finished(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    *Irp->UserIosb = Irp->IoStatus;
    KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
    IoFreeIrp(Irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

BEHAVIOUR(packets_are_built_for_file_system_drivers) {
    LARGE_INTEGER Offset = {.QuadPart = 0};
    IO_STATUS_BLOCK Block = {0};
    PFILE_OBJECT Object;
    PDEVICE_OBJECT Device;
    HANDLE File;
    KEVENT Done;
    char Bytes[4] = "abc";
    PIRP Irp;
    UNREFERENCED_PARAMETER(Call);
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\packets", GENERIC_READ | GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL)));
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(File, 0, *IoFileObjectType, KernelMode, (PVOID *)&Object, NULL)));
    Device = IoGetRelatedDeviceObject(Object);
    Irp = IoBuildSynchronousFsdRequest(IRP_MJ_WRITE, Device, Bytes, 3, &Offset, &Done, &Block);
    CHECK(Irp != NULL);
    IoGetNextIrpStackLocation(Irp)->FileObject = Object;
    CHECK(NT_SUCCESS(IoCallDriver(Device, Irp)));
    CHECK(NT_SUCCESS(KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL)) && Block.Information == 3);
    RtlZeroMemory(Bytes, sizeof(Bytes));
    KeClearEvent(&Done);
    Irp = IoBuildAsynchronousFsdRequest(IRP_MJ_READ, Device, Bytes, 3, &Offset, &Block);
    CHECK(Irp != NULL);
    IoGetNextIrpStackLocation(Irp)->FileObject = Object;
    IoSetCompletionRoutine(Irp, Finished, &Done, TRUE, TRUE, TRUE);
    IoCallDriver(Device, Irp);
    CHECK(NT_SUCCESS(KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL)) && Bytes[2] == 'c');
    ObDereferenceObject(Object);
    CHECK(ZwWaitForSingleObject(File, FALSE, &Offset) == STATUS_TIMEOUT);
    ZwClose(File);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ZwQueryDirectoryFile(HANDLE File, HANDLE Event, PIO_APC_ROUTINE Routine, PVOID Context, PIO_STATUS_BLOCK Status,
    PVOID Buffer, ULONG Length, FILE_INFORMATION_CLASS Class, BOOLEAN Single, PUNICODE_STRING Name, BOOLEAN Restart);

/* Whether a name is this one. */
static BOOLEAN IsName(const WCHAR *Name, ULONG Length, PCWSTR Other) {
    UNICODE_STRING Left = {(USHORT)Length, (USHORT)Length, (PWSTR)Name}, Right;
    RtlInitUnicodeString(&Right, Other);
    return RtlEqualUnicodeString(&Left, &Right, FALSE);
}

BEHAVIOUR(directories_tell_what_is_in_them) {
    static const PCWSTR Names[] = {L"\\??\\C:\\Logs\\b.log", L"\\??\\C:\\Logs\\A.log", L"\\??\\C:\\Logs\\c.txt"};
    UNICODE_STRING Expression = RTL_CONSTANT_STRING(L"*.LOG"), Nothing = RTL_CONSTANT_STRING(L"none");
    LONGLONG Space[128];
    FILE_BOTH_DIR_INFORMATION *Both = (PVOID)Space;
    FILE_NAMES_INFORMATION *Only = (PVOID)Space;
    FILE_DIRECTORY_INFORMATION *Plain = (PVOID)Space;
    FILE_FULL_DIR_INFORMATION *Full = (PVOID)Space;
    IO_STATUS_BLOCK Block;
    HANDLE Folder, File;
    ULONG Index;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\Logs", FILE_LIST_DIRECTORY, SHARE_ALL, FILE_CREATE, FILE_DIRECTORY_FILE, &Folder, NULL)));
    for (Index = 0; Index < ARRAYSIZE(Names); Index++) {
        CHECK(NT_SUCCESS(Open(Names[Index], GENERIC_WRITE, 0, FILE_CREATE, 0, &File, NULL)));
        CHECK(NT_SUCCESS(Write(File, "12345", Index + 3)));
        ZwClose(File);
    }
#define QUERY(Class, Length, Single, Name, Restart)                                                                    \
    ZwQueryDirectoryFile(Folder, NULL, NULL, NULL, &Block, Space, Length, Class, Single, Name, Restart)
    CHECK(QUERY(FileBothDirectoryInformation, 8, FALSE, &Expression, FALSE) == STATUS_INFO_LENGTH_MISMATCH);
    CHECK(QUERY(FileBasicInformation, sizeof(Space), FALSE, &Expression, FALSE) == STATUS_INVALID_INFO_CLASS);
    /* As many as match the expression of the first query, in their order; later ones do not change it. */
    CHECK(NT_SUCCESS(QUERY(FileBothDirectoryInformation, sizeof(Space), FALSE, &Expression, FALSE)));
    CHECK(IsName(Both->FileName, Both->FileNameLength, L"A.log") && Both->EndOfFile.QuadPart == 4 && Both->NextEntryOffset % 8 == 0);
    CHECK(Both->FileAttributes == FILE_ATTRIBUTE_ARCHIVE && Both->AllocationSize.QuadPart == 4096 && Both->LastWriteTime.QuadPart != 0);
    Both = (PVOID)((PUCHAR)Both + Both->NextEntryOffset);
    CHECK(IsName(Both->FileName, Both->FileNameLength, L"b.log") && Both->EndOfFile.QuadPart == 3 && Both->NextEntryOffset == 0);
    CHECK(Block.Information == (ULONG_PTR)((PUCHAR)&Both->FileName - (PUCHAR)Space) + Both->FileNameLength);
    CHECK(QUERY(FileNamesInformation, sizeof(Space), FALSE, &Nothing, FALSE) == STATUS_NO_MORE_FILES);
    CHECK(NT_SUCCESS(QUERY(FileNamesInformation, sizeof(Space), TRUE, NULL, TRUE)) && IsName(Only->FileName, Only->FileNameLength, L"A.log"));
    /* What does not fit any more is told by the next query. */
    CHECK(NT_SUCCESS(QUERY(FileNamesInformation, 16, FALSE, NULL, FALSE)) && Block.Information == 0);
    CHECK(NT_SUCCESS(QUERY(FileFullDirectoryInformation, sizeof(Space), FALSE, NULL, FALSE)) && IsName(Full->FileName, Full->FileNameLength, L"b.log"));
    CHECK(QUERY(FileFullDirectoryInformation, sizeof(Space), FALSE, NULL, FALSE) == STATUS_NO_MORE_FILES);
    ZwClose(Folder);
    /* All of it, one by one: the directory itself and the one above come first. */
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\logs", FILE_LIST_DIRECTORY, SHARE_ALL, FILE_OPEN, FILE_DIRECTORY_FILE, &Folder, NULL)));
    CHECK(NT_SUCCESS(QUERY(FileDirectoryInformation, sizeof(Space), TRUE, NULL, FALSE)) && IsName(Plain->FileName, Plain->FileNameLength, L"."));
    CHECK(Plain->FileAttributes == FILE_ATTRIBUTE_DIRECTORY);
    for (Index = 1; NT_SUCCESS(QUERY(FileDirectoryInformation, sizeof(Space), TRUE, NULL, FALSE)); Index++)
        CHECK(Plain->NextEntryOffset == 0);
    CHECK(Index == 5);
    ZwClose(Folder);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\Logs", FILE_LIST_DIRECTORY, SHARE_ALL, FILE_OPEN, FILE_DIRECTORY_FILE, &Folder, NULL)));
    CHECK(QUERY(FileNamesInformation, 14, FALSE, &Expression, FALSE) == STATUS_BUFFER_OVERFLOW && Block.Information == 14);
    CHECK(Only->FileNameLength == 10 && Only->FileName[0] == 'A');
    ZwClose(Folder);
    CHECK(NT_SUCCESS(Open(L"\\??\\C:\\Logs", FILE_LIST_DIRECTORY, SHARE_ALL, FILE_OPEN, FILE_DIRECTORY_FILE, &Folder, NULL)));
    CHECK(QUERY(FileNamesInformation, sizeof(Space), FALSE, &Nothing, FALSE) == STATUS_NO_SUCH_FILE);
    ZwClose(Folder);
    CHECK(NT_SUCCESS(Open(Names[0], GENERIC_READ, SHARE_ALL, FILE_OPEN, 0, &Folder, NULL)));
    CHECK(QUERY(FileNamesInformation, sizeof(Space), FALSE, NULL, FALSE) == STATUS_INVALID_PARAMETER);
    ZwClose(Folder);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(directories_tell_what_is_in_them),
    ROW_OF(a_file_is_read_as_it_was_written),
    ROW_OF(what_cannot_be_opened_says_why),
    ROW_OF(files_are_cut_renamed_and_deleted),
    ROW_OF(a_device_is_opened_and_asked_by_its_handle),
    ROW_OF(packets_are_built_for_file_system_drivers),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
